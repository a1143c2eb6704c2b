"""Reading what measures take: from segments one by one where they may be, else from records put in order.

A segment never changes, and it is sorted: what a measure took of it, in a window, is kept. Segments merge as
they are, except for the GPUs of which one has records in between those of another (uploads that overlap, or
that came twice): the records of these are read from all of them, a stretch of time after the other, and put
in order first. Many small segments, as fresh uploads leave them, are put in order together.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.filters import match_labels
from functions.query.fleet.measures import Measure, Spans, codes, in_time, times
from functions.query.records import Window
from shared.errors import LimitExceeded
from shared.records import KEY, TEXT, TIMESTAMP, VERSION, chunk, concat, sort_resolve
from shared.store.read import Cache, Store, read_again, within
from shared.store.segment import SegmentInfo

#: Bytes kept of what measures took.
_CACHE_BYTES = 64 * 1024 * 1024
#: Segments of so few records are put in order together, about so many at a time.
SMALL_ROWS, TOGETHER_ROWS = 16_000, 250_000

_EMPTY = pa.table({"uuid": pa.array([], TEXT), "timestamp": pa.array([], TIMESTAMP)})

#: What was taken, by measure: each table has a column `uuid`.
Taken = Mapping[Measure, pa.Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which records are measured: those of some GPUs in a window, whose labels match."""

    window: Window
    #: None for all.
    uuids: pa.Array | None
    #: What labels of each record must match.
    labels: tuple[tuple[str, str], ...] = ()


class Parts:
    """Measures the records in the store; safe to share between threads."""

    def __init__(
        self,
        store: Callable[[], Store],
        *,
        time_s: float = math.inf,
        small_rows: int = SMALL_ROWS,
        together_rows: int = TOGETHER_ROWS,
    ) -> None:
        """Make it.

        Args:
            store: What is read.
            time_s: How long measuring may take.
            small_rows: Segments of so few records are put in order together.
            together_rows: About so many records at a time.
        """
        self._store = store
        self._time_s = time_s
        self._small_rows = small_rows
        self._together_rows = together_rows
        self._kept: Cache[pa.Table] = Cache(_CACHE_BYTES, lambda table: int(table.nbytes))

    def measure(self, measures: Collection[Measure], scope: Scope) -> Taken:
        """Measure the records of a scope, and merge; `Spans` are always among what is returned.

        Raises:
            OutrunByCompaction: The segments went faster than they could be read.
            LimitExceeded: It takes too long.
        """
        wanted = tuple(dict.fromkeys([Spans(), *measures]))
        deadline = time.monotonic() + self._time_s
        return read_again(partial(self._measure, wanted, scope, deadline))

    def _measure(self, measures: Sequence[Measure], scope: Scope, deadline: float) -> Taken:
        segments = [s for s in self._store().index().segments if scope.window.overlaps(s)]
        groups = list(group_small(segments, self._small_rows, self._together_rows))
        # Of all their records: which of them match is known once they are put in order.
        everything = replace(scope, labels=())
        spans = []
        for group in groups:
            self._check_time(deadline)
            spans.append(self._of_group(group, [Spans()], everything)[Spans()])
        twice = find_entangled(_of_scope(put_below([Spans().take(_EMPTY), *spans]), scope))
        sums = [Sum(measure) for measure in measures]
        for group in groups:
            self._check_time(deadline)
            taken = self._of_group(group, measures, scope)
            for each in sums:
                each.add(_of_scope(drop_uuids(taken[each.measure], twice), scope))
        if len(twice):
            for stretch in cut_stretches(keep_uuids(put_below(spans), twice), self._together_rows):
                self._check_time(deadline)
                taken = self._in_order(segments, measures, scope, stretch, twice)
                for each in sums:
                    each.add(taken[each.measure])
        return {each.measure: as_text(each.merge()) for each in sums}

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise LimitExceeded(
                f"one query may take {self._time_s:g} s (MAX_QUERY_TIME): ask for less time or fewer GPUs",
                max_query_time_s=self._time_s,
            )

    def _of_group(self, group: Sequence[SegmentInfo], measures: Sequence[Measure], scope: Scope) -> Taken:
        """Take measures of segments that are read as one."""
        prefix = _name(group, scope)
        found = {m: self._kept.get(f"{prefix}/{m!r}") for m in measures}
        missing = [m for m, table in found.items() if table is None]
        if missing:
            tables = self._store().read_columns(group, _columns(missing, scope))
            part = _cut([within(t, scope.window.start_ms, scope.window.end_ms) for t in tables], scope)
            for measure in missing:
                found[measure] = table = measure.take(part)
                self._kept.put(f"{prefix}/{measure!r}", table)
        return {m: table for m, table in found.items() if table is not None}

    def _in_order(
        self,
        segments: Sequence[SegmentInfo],
        measures: Sequence[Measure],
        scope: Scope,
        stretch: Window,
        uuids: pa.Array,
    ) -> Taken:
        """Take measures of the records of some GPUs in a stretch of time, put in order."""
        overlapping = [s for s in segments if stretch.overlaps(s)]
        tables = self._store().read_columns(overlapping, _columns(measures, scope))
        wanted = [within(keep_uuids(t, uuids), stretch.start_ms, stretch.end_ms) for t in tables]
        part = _cut(wanted, scope)
        return {m: m.take(part) for m in measures}


class Sum:
    """What a measure took of parts, put below each other; what has many rows is merged as it comes."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self._tables = [self._wanted(measure.take(_EMPTY))]
        #: Rows added since they were merged.
        self._rows = 0

    def add(self, taken: pa.Table) -> None:
        """Add what was taken of a part."""
        self._tables.append(self._wanted(taken))
        self._rows += taken.num_rows
        if self.measure.in_any_order and self._rows > TOGETHER_ROWS:
            self._tables, self._rows = [self.merge()], 0

    def merge(self) -> pa.Table:
        """Merge all of it."""
        return self.measure.merge(put_below(self._tables))

    def _wanted(self, taken: pa.Table) -> pa.Table:
        return taken if self.measure.by_gpu else taken.drop_columns(["uuid"])


def as_text(table: pa.Table) -> pa.Table:
    """Turn dictionaries into plain text."""
    text = pa.types.is_dictionary
    return table.cast(pa.schema((f.name, pa.string() if text(f.type) else f.type) for f in table.schema))


def _of_scope(table: pa.Table, scope: Scope) -> pa.Table:
    return table if scope.uuids is None else keep_uuids(table, scope.uuids)


def _name(group: Sequence[SegmentInfo], scope: Scope) -> str:
    """Name the records of segments within a scope: a bound that cuts nothing off is none."""
    ids = group[0].id if len(group) == 1 else blake2b("".join(s.id for s in group).encode()).hexdigest()
    start, end = scope.window.start_ms, scope.window.end_ms
    first, last = min(s.min_ms for s in group), max(s.max_ms for s in group)
    low = start if start is not None and first < start else None
    high = end if end is not None and last >= end else None
    return f"{ids}/{low}-{high}/{scope.labels!r}"


def _columns(measures: Collection[Measure], scope: Scope) -> frozenset[str]:
    read = {name for measure in measures for name in measure.columns}
    return frozenset({*KEY, *VERSION, *read, *(label for label, _ in scope.labels)})


def _cut(tables: Sequence[pa.Table], scope: Scope) -> pa.Table:
    """Make a part of the rows of segments: resolved, sorted, and only what the scope's labels match."""
    some = [t for t in tables if t.num_rows]
    if not some:
        return _EMPTY
    table = some[0].combine_chunks() if len(some) == 1 else concat(some)
    if len(some) > 1 or has_keys_twice(table):
        table = sort_resolve(table)
    return match_labels(table, dict(scope.labels)).combine_chunks()


def has_keys_twice(table: pa.Table) -> bool:
    """Tell whether sorted records have several rows of one key."""
    uuids, ms = codes(table), times(table)
    same = pc.and_(pc.equal(uuids[1:], uuids[:-1]), pc.equal(ms[1:], ms[:-1]))
    return bool(pc.any(same).as_py())


def group_small(
    segments: Sequence[SegmentInfo], small_rows: int, together_rows: int
) -> Iterator[list[SegmentInfo]]:
    """Put small segments together that follow each other in time; the others stay alone."""
    together: list[SegmentInfo] = []
    rows = 0
    for segment in sorted(segments, key=lambda s: (s.min_ms, s.id)):
        is_small = segment.rows <= small_rows
        if together and (not is_small or rows + segment.rows > together_rows):
            yield together
            together, rows = [], 0
        if is_small:
            together.append(segment)
            rows += segment.rows
        else:
            yield [segment]
    if together:
        yield together


def find_entangled(spans: pa.Table) -> pa.Array:
    """Find the GPUs of which one part has records in between those of another."""
    if spans.num_rows < 2:  # noqa: PLR2004
        return pa.array([], pa.string())
    spans = in_time(spans)
    uuids = chunk(spans, "uuid").indices
    follows = pc.equal(uuids[1:], uuids[:-1])
    begins_late = pc.greater(chunk(spans, "first_ms")[1:], chunk(spans, "last_ms")[:-1])
    found = pc.unique(uuids[1:].filter(pc.and_(follows, pc.invert(begins_late))))
    return chunk(spans, "uuid").dictionary.take(found)


def cut_stretches(spans: pa.Table, most: int) -> list[Window]:
    """Cut the time of spans into stretches with about `most` records each, if they are spread evenly."""
    first, last = pc.min(spans.column("first_ms")).as_py(), pc.max(spans.column("last_ms")).as_py() + 1
    count = min(-(-pc.sum(spans.column("rows")).as_py() // most), last - first)
    edges = [first + (last - first) * i // count for i in range(count + 1)]
    return [Window(start_ms=a, end_ms=b) for a, b in itertools.pairwise(edges)]


def put_below(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables of the same columns below each other."""
    some = [t for t in tables if t.num_rows] or list(tables[:1])
    return pa.concat_tables(some).unify_dictionaries().combine_chunks()


def keep_uuids(table: pa.Table, uuids: pa.Array) -> pa.Table:
    """Keep the rows of some GPUs."""
    return _filter(table, pc.is_in(chunk(table, "uuid").dictionary, value_set=uuids))


def drop_uuids(table: pa.Table, uuids: pa.Array) -> pa.Table:
    """Drop the rows of some GPUs."""
    return _filter(table, pc.invert(pc.is_in(chunk(table, "uuid").dictionary, value_set=uuids)))


def _filter(table: pa.Table, wanted: pa.Array) -> pa.Table:
    """Keep the rows whose uuid, by its number in the dictionary, is wanted."""
    if pc.all(wanted).as_py():
        return table
    return table.filter(wanted.take(chunk(table, "uuid").indices)).combine_chunks()
