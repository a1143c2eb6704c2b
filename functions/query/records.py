"""Records in order, in chunks of bounded size: what a query streams.

One GPU is swept by time over its segments; many are taken GPU by GPU, or a few small ones together.
Where a segment is gone (folded meanwhile), the index is taken again and the sweep goes on after the last
key answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

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


def find_segments(store: Store, uuid: str, window: Window) -> list[SegmentInfo]:
    """Find the segments that may hold records of one GPU in a window."""
    return [s for s in store.index().segments if s.min_uuid <= uuid <= s.max_uuid and window.overlaps(s)]


class GpuRecords:
    """The resolved records of one GPU, ordered by time, a chunk at a time; iterate once."""

    def __init__(
        self, store: Store, uuid: str, window: Window, segments: list[SegmentInfo] | None = None
    ) -> None:
        """Make them; `segments` is what `find_segments` found, where it was asked already."""
        self._store = store
        self._uuid = uuid
        self._window = window
        self._segments = segments
        #: Whether they are of other segments than those given: one of these was folded meanwhile.
        self.retaken = False

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the chunks.

        Raises:
            OutrunByCompaction: The segments went faster than they could be read.
        """
        start, segments = self._window.start_ms, self._segments
        for _ in range(MOST_TRIES):
            now = Window(start_ms=start, end_ms=self._window.end_ms)
            if segments is None:
                segments = find_segments(self._store, self._uuid, now)
            try:
                for part in _sweep(self._store, segments, self._uuid, now):
                    yield part
                    start = int(part.column("timestamp")[-1].cast(pa.int64()).as_py()) + 1
            except SegmentGone:
                segments, self.retaken = None, True
                continue
            return
        raise OutrunByCompaction


def iter_gpu(store: Store, uuid: str, window: Window) -> Iterator[pa.Table]:
    """Yield the resolved records of one GPU, ordered by time."""
    return iter(GpuRecords(store, uuid, window))


def _sweep(store: Store, segments: list[SegmentInfo], uuid: str, window: Window) -> Iterator[pa.Table]:
    segments = sorted(segments, key=lambda s: s.min_ms)
    held: list[pa.Table] = []
    for segment, table in zip(segments, store.read_gpu(segments, uuid), strict=True):
        if sum(t.num_rows for t in held) >= CHUNK_ROWS:
            # Nothing that comes later is earlier than this segment's first record.
            joined = concat(held)
            ready, rest = (within(joined, None, segment.min_ms), within(joined, segment.min_ms, None))
            if ready.num_rows:
                yield sort_resolve(ready.combine_chunks())
            held = [rest] if rest.num_rows else []
        found = within(table, window.start_ms, window.end_ms)
        if found.num_rows:
            held.append(found)
    if held:
        yield sort_resolve(concat(held))


def iter_many(store: Store, gpus: Sequence[str], window: Window, wanted: int | None) -> Iterator[pa.Table]:
    """Yield the resolved records of GPUs, given in order of uuid, ordered by (uuid, time).

    `wanted` is how many records are wanted: it decides how many GPUs are read together.
    """
    most = BATCH_ROWS if wanted is None else min(wanted, BATCH_ROWS)
    together = max(most // _guess_records(store, len(gpus), window), 1)
    for start in range(0, len(gpus), together):
        batch = gpus[start : start + together]
        if len(batch) == 1:
            yield from iter_gpu(store, batch[0], window)
            continue
        part = read_again(partial(_read_batch, store, batch, window))
        if part is not None:
            for begin in range(0, part.num_rows, CHUNK_ROWS):
                yield part.slice(begin, CHUNK_ROWS)


def _guess_records(store: Store, gpus: int, window: Window) -> int:
    """Guess how many records one GPU has in the window, from the index alone."""
    rows = sum(s.rows for s in store.index().segments if window.overlaps(s))
    return max(rows // max(gpus, 1), 1)


def _read_batch(store: Store, batch: Sequence[str], window: Window) -> pa.Table | None:
    held = list(iter_rows(store, batch[0], batch[-1], window))
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


def limited(parts: Iterable[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    """Cut chunks off after so many records."""
    left = limit
    for part in parts:
        if left is None:
            yield part
            continue
        yield part.slice(0, left)
        left -= min(left, part.num_rows)
        if not left:
            return
