"""Records in order, in chunks of bounded size: what a query streams.

One GPU is swept by time over its segments; many are taken GPU by GPU, or a few small ones together.
Where a segment is gone (folded meanwhile), the index is taken again and the sweep goes on after the last
key answered. Descending is the whole order reversed, chunk by chunk: uuid and time both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from shared.records import chunk, concat, sort_resolve
from shared.store.read import (
    MOST_TRIES,
    OutrunByCompaction,
    SegmentGone,
    Store,
    read_again,
    within,
)
from shared.store.segment import SegmentInfo

#: Records in one chunk of an answer, about; a chunk is what is in memory at a time.
CHUNK_ROWS = 20_000
#: Records of several GPUs that are read together: each such batch passes over the segments once, so few large
#: ones beat many small; about 100 MB while they are sorted.
BATCH_ROWS = 250_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A half-open window of time, [start, end), epoch ms; open where None."""

    start_ms: int | None = None
    end_ms: int | None = None

    def overlaps(self, segment: SegmentInfo) -> bool:
        """Tell whether a segment may hold records of the window."""
        after = self.end_ms is not None and segment.min_ms >= self.end_ms
        before = self.start_ms is not None and segment.max_ms < self.start_ms
        return not after and not before

    def beyond(self, ms: int, *, descending: bool = False) -> Window:
        """Leave out what comes up to a time, itself included: the past, or what is later if descending."""
        if descending:
            return replace(self, end_ms=ms if self.end_ms is None else min(ms, self.end_ms))
        return replace(self, start_ms=ms + 1 if self.start_ms is None else max(ms + 1, self.start_ms))


class Place(NamedTuple):
    """A place in the order of records: just behind one of a GPU at a time, epoch ms, there or not."""

    uuid: str
    ms: int


def last_place(table: pa.Table) -> Place:
    """Find the place behind a chunk."""
    ms = chunk(table, "timestamp")[-1].cast(pa.int64()).as_py()
    return Place(str(chunk(table, "uuid")[-1].as_py()), int(ms))


def reverse(table: pa.Table) -> pa.Table:
    """Turn the order of rows around."""
    return table.take(pa.array(range(table.num_rows - 1, -1, -1), pa.int64()))


def find_segments(store: Store, uuid: str, window: Window) -> list[SegmentInfo]:
    """Find the segments that may hold records of one GPU in a window."""
    return [s for s in store.index().segments if s.min_uuid <= uuid <= s.max_uuid and window.overlaps(s)]


class GpuRecords:
    """The resolved records of one GPU, in order of time, a chunk at a time; iterate once."""

    def __init__(
        self,
        store: Store,
        uuid: str,
        window: Window,
        segments: list[SegmentInfo] | None = None,
        *,
        descending: bool = False,
    ) -> None:
        """Make them; `segments` is what `find_segments` found, where it was asked already."""
        self._store = store
        self._uuid = uuid
        self._window = window
        self._segments = segments
        self._descending = descending
        #: Whether they are of other segments than those given: one of these was folded meanwhile.
        self.retaken = False

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the chunks.

        Raises:
            OutrunByCompaction: The segments went faster than they could be read.
        """
        window, segments = self._window, self._segments
        for _ in range(MOST_TRIES):
            if segments is None:
                segments = find_segments(self._store, self._uuid, window)
            try:
                for part in _sweep(self._store, segments, self._uuid, window, descending=self._descending):
                    yield part
                    window = window.beyond(last_place(part).ms, descending=self._descending)
            except SegmentGone:
                segments, self.retaken = None, True
                continue
            return
        raise OutrunByCompaction


def iter_gpu(store: Store, uuid: str, window: Window, *, descending: bool = False) -> Iterator[pa.Table]:
    """Yield the resolved records of one GPU, in order of time."""
    return iter(GpuRecords(store, uuid, window, descending=descending))


def _sweep(
    store: Store, segments: list[SegmentInfo], uuid: str, window: Window, *, descending: bool
) -> Iterator[pa.Table]:
    segments = sorted(segments, key=lambda s: -s.max_ms if descending else s.min_ms)
    held: list[pa.Table] = []
    for segment, table in zip(segments, store.read_gpu(segments, uuid), strict=True):
        if sum(t.num_rows for t in held) >= CHUNK_ROWS:
            ready, rest = _split(concat(held), segment, descending=descending)
            if ready.num_rows:
                yield from _resolve(ready.combine_chunks(), descending=descending)
            held = [rest] if rest.num_rows else []
        found = within(table, window.start_ms, window.end_ms)
        if found.num_rows:
            held.append(found)
    if held:
        yield from _resolve(concat(held), descending=descending)


def _split(table: pa.Table, segment: SegmentInfo, *, descending: bool) -> tuple[pa.Table, pa.Table]:
    """Part what no later segment has anything before from the rest; `segment` comes first of those."""
    if descending:
        return within(table, segment.max_ms + 1, None), within(table, None, segment.max_ms + 1)
    return within(table, None, segment.min_ms), within(table, segment.min_ms, None)


def _resolve(table: pa.Table, *, descending: bool) -> Iterator[pa.Table]:
    """Resolve rows, and yield them in chunks: one segment alone can have many times the rows of one."""
    return _slices(sort_resolve(table), descending=descending)


def _slices(table: pa.Table, *, descending: bool) -> Iterator[pa.Table]:
    for begin in range(0, table.num_rows, CHUNK_ROWS):
        if descending:
            end = table.num_rows - begin
            yield reverse(table.slice(max(end - CHUNK_ROWS, 0), min(end, CHUNK_ROWS)))
        else:
            yield table.slice(begin, CHUNK_ROWS)


def iter_many(
    store: Store,
    gpus: Sequence[str],
    window: Window,
    wanted: int | None,
    *,
    after: Place | None = None,
    descending: bool = False,
) -> Iterator[pa.Table]:
    """Yield the resolved records of GPUs, given in order of uuid, ordered by (uuid, time).

    `wanted` is how many records are wanted: it decides how many GPUs are read together. What comes up to
    `after` is left out.
    """
    gpus = gpus[::-1] if descending else gpus
    if after is not None:
        begun = window.beyond(after.ms, descending=descending)
        if after.uuid in gpus:
            yield from iter_gpu(store, after.uuid, begun, descending=descending)
        gpus = [g for g in gpus if (g < after.uuid if descending else g > after.uuid)]
    most = BATCH_ROWS if wanted is None else min(wanted, BATCH_ROWS)
    together = max(most // _guess_records(store, len(gpus), window), 1)
    for start in range(0, len(gpus), together):
        batch = gpus[start : start + together]
        if len(batch) == 1:
            yield from iter_gpu(store, batch[0], window, descending=descending)
            continue
        part = read_again(partial(_read_batch, store, batch, window))
        if part is not None:
            yield from _slices(part, descending=descending)


def _guess_records(store: Store, gpus: int, window: Window) -> int:
    """Guess how many records one GPU has in the window, from the index alone."""
    rows = sum(s.rows for s in store.index().segments if window.overlaps(s))
    return max(rows // max(gpus, 1), 1)


def _read_batch(store: Store, batch: Sequence[str], window: Window) -> pa.Table | None:
    """Read the records of several GPUs, in whatever order these are, ordered ascending."""
    held = []
    names = pa.array(batch, pa.string())
    for table in iter_rows(store, min(batch[0], batch[-1]), max(batch[0], batch[-1]), window):
        uuids = chunk(table, "uuid")
        own = table.filter(pc.is_in(uuids.dictionary, value_set=names).take(uuids.indices))
        if own.num_rows:
            held.append(own)
    return sort_resolve(concat(held)) if held else None


def iter_rows(store: Store, low: str, high: str, window: Window) -> Iterator[pa.Table]:
    """Yield the rows of all GPUs from one uuid to another, both included, as each segment has them.

    Raises:
        SegmentGone: The index is out of date; ask again.
    """
    segments = [
        s for s in store.index().segments if s.min_uuid <= high and s.max_uuid >= low and window.overlaps(s)
    ]
    for table in store.read(segments):
        uuids = chunk(table, "uuid")
        words = uuids.dictionary
        wanted = pc.and_(pc.greater_equal(words, low), pc.less_equal(words, high))
        found = within(table.filter(wanted.take(uuids.indices)), window.start_ms, window.end_ms)
        if found.num_rows:
            yield found
