"""Reading the store: the index at one revision, immutable segments by key, records in order.

A segment that was folded meanwhile is gone: SegmentGone says so, and the caller takes the index again and
goes on after the last key it answered. Decoded segments are kept within a byte budget: they never change.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import PipelineError, Transient
from shared.etcd import Etcd, Get, KeyValue, prefix_end
from shared.keys import Keys
from shared.store.inventory import decode_inventory
from shared.store.parquet import ROW_GROUP_ROWS, find_rows
from shared.store.segment import (
    SegmentInfo,
    decode,
    parse_index_entry,
    trimmed_table,
)

T = TypeVar("T")

#: Bytes that one process keeps of decoded segments, and as many of encoded ones, which hold ten times more.
CACHE_BYTES = 96 * 1024 * 1024
#: Payloads read in one request; each is at most 1.4 MB.
_FETCH = 16
#: Inventories read in one request; etcd takes 128 operations in one.
_FETCH_INVENTORIES = 64
_FETCH_TIMEOUT_S = 2.8


class SegmentGone(PipelineError):
    """A segment was folded into another since the index was read."""


#: How often a reader takes the index again because compaction was faster, before it gives up.
MOST_TRIES = 20


class OutrunByCompaction(Transient):
    """The store is being compacted faster than it can be read; try again."""


def read_again(read: Callable[[], T]) -> T:
    """Do what reads the store, from the start again where a segment it wanted was gone.

    Raises:
        OutrunByCompaction: It was, every time.
    """
    for _ in range(MOST_TRIES):
        try:
            return read()
        except SegmentGone:
            continue
    raise OutrunByCompaction


@dataclass(frozen=True, slots=True)
class Index:
    """What is stored, at one revision."""

    segments: tuple[SegmentInfo, ...]
    revision: int


class Cache(Generic[T]):
    """Values by segment, or `<segment>/<part>`; the least recently used go first; thread-safe."""

    def __init__(self, budget_bytes: int, size: Callable[[T], int]) -> None:
        self._budget = budget_bytes
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[str, T] = OrderedDict()
        self._bytes = 0

    def get(self, segment: str) -> T | None:
        """Return what is kept of a segment."""
        with self._lock:
            if segment in self._values:
                self._values.move_to_end(segment)
            return self._values.get(segment)

    def put(self, segment: str, value: T) -> None:
        """Keep something of a segment."""
        with self._lock:
            if segment in self._values:
                return
            self._values[segment] = value
            self._bytes += self._size(value)
            while self._bytes > self._budget and len(self._values) > 1:
                _, gone = self._values.popitem(last=False)
                self._bytes -= self._size(gone)

    def keep_only(self, segments: set[str]) -> None:
        """Let go of what the index no longer has."""
        with self._lock:
            for name in [n for n in self._values if n.partition("/")[0] not in segments]:
                self._bytes -= self._size(self._values.pop(name))


class Store:
    """The store as a reader sees it; safe to share between threads.

    Raises Transient from any call when etcd is away: an outage is never reported as an empty store.
    """

    def __init__(self, etcd: Etcd, keys: Keys, cache_bytes: int = CACHE_BYTES) -> None:
        self._etcd = etcd
        self._keys = keys
        self._lock = threading.Lock()
        self._index = Index((), -1)
        #: The revision of the newest entry in the index kept.
        self._newest = 0
        #: The segments that were named last, and their name.
        self._named: tuple[tuple[SegmentInfo, ...], str] = ((), "empty")
        self._tables: Cache[pa.Table] = Cache(cache_bytes, lambda table: int(table.nbytes))
        self._payloads: Cache[bytes] = Cache(cache_bytes, len)
        #: The records of one GPU in one large segment, by `<segment>/<uuid>`.
        self._slices: Cache[pa.Table] = Cache(cache_bytes // 2, lambda table: int(table.nbytes))

    def index(self) -> Index:
        """Read the index as it is now.

        One key is read where nothing changed; where entries were only added, only those are.
        """
        prefix = self._keys.index_prefix
        end = prefix_end(prefix)
        with self._lock:
            old, newest = self._index, self._newest
        if old.revision >= 0:
            # Every transaction that changes the index rings the bell.
            bell = self._etcd.read(Get(self._keys.store_bell))
            if bell.revision < old.revision or (old.segments and not bell.items):
                # Another etcd than before, or one that was restored: nothing that was known holds.
                return self._start_afresh()
            if all(item.mod_revision <= old.revision for item in bell.items):
                return Index(old.segments, bell.revision)
            answer = self._etcd.txn(
                [],
                [Get(prefix, end, count_only=True), Get(prefix, end, min_mod_revision=newest + 1)],
            )
            count, added = answer.reads[0].count, answer.reads[1]
            if count == len(old.segments) + len(added.items):
                if not added.items:
                    return Index(old.segments, answer.revision)
                return self._keep([*old.segments, *self._parse(added.items)], added.items, added.revision)
        full = self._etcd.read(Get(prefix, end))
        return self._keep(self._parse(full.items), full.items, full.revision)

    def version(self, index: Index) -> str:
        """Name what is stored: another name whenever a segment came or went, the same in every process."""
        segments, name = self._named
        if segments is not index.segments:
            ids = "".join(sorted(s.id for s in index.segments))
            name = blake2b(ids.encode(), digest_size=12).hexdigest() if ids else "empty"
            self._named = index.segments, name
        return name

    def _start_afresh(self) -> Index:
        with self._lock:
            self._index, self._newest = Index((), -1), 0
        for cache in (self._tables, self._payloads, self._slices):
            cache.keep_only(set())
        return self.index()

    def _parse(self, items: Iterable[KeyValue]) -> list[SegmentInfo]:
        """Read entries; those that are known already are not read again."""
        known = {s.id: s for s in self._index.segments}
        out = []
        for item in items:
            old = known.get(item.key.rpartition("/")[2])
            if old is None or old.revision != item.create_revision:
                old = parse_index_entry(self._keys, item.key, item.value, item.create_revision)
            out.append(old)
        return out

    def _keep(self, segments: list[SegmentInfo], items: Iterable[KeyValue], revision: int) -> Index:
        index = Index(tuple(segments), revision)
        newest = max((item.mod_revision for item in items), default=0)
        with self._lock:
            if revision >= self._index.revision:
                self._index, self._newest = index, max(newest, self._newest)
        kept = {s.id for s in segments}
        self._tables.keep_only(kept)
        self._payloads.keep_only(kept)
        self._slices.keep_only(kept)
        return index

    def read_gpu(self, segments: Sequence[SegmentInfo], uuid: str) -> Iterator[pa.Table]:
        """Yield the records of one GPU in each of segments, in the order asked for; there may be none.

        Of a large segment only the part that holds the GPU is decoded, and its records are kept.

        Raises:
            SegmentGone: One of them is no longer there.
            Corrupt: One of them cannot be decoded.
        """
        for start in range(0, len(segments), _FETCH):
            group = segments[start : start + _FETCH]
            found = {s.id: self._slices.get(f"{s.id}/{uuid}") for s in group}
            missing = [s for s in group if found[s.id] is None]
            small = [s for s in missing if s.rows <= ROW_GROUP_ROWS or self._tables.get(s.id) is not None]
            for segment, table in zip(small, self.read(small), strict=True):
                found[segment.id] = slice_of_gpu(table, uuid)
            large = [s for s in missing if found[s.id] is None]
            payloads = self._fetch(large)
            for segment in large:
                part = slice_of_gpu(decode(payloads[segment.id], uuid), uuid)
                found[segment.id] = table = trimmed_table(part)
                self._slices.put(f"{segment.id}/{uuid}", table)
            yield from (found[s.id] for s in group)

    def read(self, segments: Iterable[SegmentInfo]) -> Iterator[pa.Table]:
        """Yield the records of segments, in the order asked for, one decoded at a time.

        Raises:
            SegmentGone: One of them is no longer there.
            Corrupt: One of them cannot be decoded.
        """
        wanted = list(segments)
        for start in range(0, len(wanted), _FETCH):
            group = wanted[start : start + _FETCH]
            payloads = self._fetch([s for s in group if self._tables.get(s.id) is None])
            for segment in group:
                table = self._tables.get(segment.id)
                if table is None:
                    # Let go of since it was looked for: rare enough to read it by itself.
                    payload = payloads.pop(segment.id, None) or self._fetch([segment])[segment.id]
                    table = decode(payload)
                    self._tables.put(segment.id, table)
                yield table

    def read_columns(self, segments: Sequence[SegmentInfo], columns: Collection[str]) -> Iterator[pa.Table]:
        """Yield some columns of segments, in the order asked for, one decoded at a time.

        What was decoded is not kept: this is for those who keep what they make of it. Columns that a segment
        does not have are left out.

        Raises:
            SegmentGone: One of them is no longer there.
            Corrupt: One of them cannot be decoded.
        """
        for start in range(0, len(segments), _FETCH):
            group = segments[start : start + _FETCH]
            whole = {s.id: self._tables.get(s.id) for s in group}
            payloads = self._fetch([s for s in group if whole[s.id] is None])
            for segment in group:
                table = whole[segment.id]
                if table is None:
                    table = decode(payloads.pop(segment.id), None, columns)
                yield table.select([name for name in table.column_names if name in columns])

    def read_inventories(self, segments: Sequence[SegmentInfo]) -> dict[str, pa.Table]:
        """Read the inventories of folded segments, by segment.

        Raises:
            SegmentGone: One of them is no longer there.
            Corrupt: One of them cannot be decoded.
        """
        out = {}
        for start in range(0, len(segments), _FETCH_INVENTORIES):
            group = segments[start : start + _FETCH_INVENTORIES]
            gets = [Get(self._keys.inventory(s.id)) for s in group]
            answer = self._etcd.txn([], gets, timeout_s=_FETCH_TIMEOUT_S)
            for segment, found in zip(group, answer.reads, strict=True):
                if not found.items:
                    raise SegmentGone(segment=segment.id)
                out[segment.id] = decode_inventory(found.items[0].value)
        return out

    def read_payload(self, segment: SegmentInfo) -> bytes:
        """Read the bytes of one segment, and keep nothing.

        Raises:
            SegmentGone: It is no longer there.
        """
        found = self._etcd.get(self._keys.segment(segment.id))
        if found is None:
            raise SegmentGone(segment=segment.id)
        return found.value

    def _fetch(self, segments: Sequence[SegmentInfo]) -> dict[str, bytes]:
        """Read payloads, those that are kept from memory, the others in one request."""
        out = {s.id: self._payloads.get(s.id) for s in segments}
        missing = [s for s in segments if out[s.id] is None]
        if missing:
            answer = self._etcd.txn(
                [], [Get(self._keys.segment(s.id)) for s in missing], timeout_s=_FETCH_TIMEOUT_S
            )
            for segment, found in zip(missing, answer.reads, strict=True):
                if not found.items:
                    raise SegmentGone(segment=segment.id)
                out[segment.id] = found.items[0].value
                self._payloads.put(segment.id, found.items[0].value)
        return {name: payload for name, payload in out.items() if payload is not None}


def slice_of_gpu(table: pa.Table, uuid: str) -> pa.Table:
    """Cut the records of one GPU out of sorted records, without copying."""
    return table.slice(*find_rows(table, uuid))


def within(table: pa.Table, start_ms: int | None, end_ms: int | None) -> pa.Table:
    """Keep the records of [start, end)."""
    if table.num_rows == 0 or (start_ms is None and end_ms is None):
        return table
    times = table.column("timestamp").cast(pa.int64())
    keep = None
    if start_ms is not None:
        keep = pc.greater_equal(times, start_ms)
    if end_ms is not None:
        before = pc.less(times, end_ms)
        keep = before if keep is None else pc.and_(keep, before)
    return table.filter(keep)
