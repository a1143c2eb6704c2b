"""Which GPUs there are, and the newest of each: from the inventories, and from what is not folded yet."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from shared.records import FIRST_MS, LAST_MS, STATUS, TIMESTAMP
from shared.store.inventory import merge_inventories, summarise, take_inventory
from shared.store.read import Cache, Store
from shared.store.segment import SegmentInfo

_CACHE_BYTES = 64 * 1024 * 1024
#: Segments are taken together by how long they stay: fresh, folded, merged.
_KINDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of all GPUs: one object for as long as the store stays as it is."""

    #: Of each GPU the records that the newest value of each of its fields is taken from.
    inventory: pa.Table
    #: Of each GPU one row, as `summarise` makes it.
    summary: pa.Table
    #: What it was read from, and what `Store.version` calls that.
    segments: tuple[SegmentInfo, ...] = ()
    version: str = "empty"


class _Merged(NamedTuple):
    """The inventory of some segments."""

    ids: frozenset[str]
    inventory: pa.Table


class Gpus:
    """The GPUs in the store; safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._inventories: Cache[pa.Table] = Cache(_CACHE_BYTES, lambda table: int(table.nbytes))
        #: What was merged last, of all segments and by kind.
        self._whole: _Merged | None = None
        self._kinds: dict[int, _Merged] = {}
        self._known: Known | None = None

    def read(self) -> pa.Table | None:
        """Summarise the whole store, one row per GPU (see `summarise`); None where it is empty.

        Raises:
            SegmentGone: The index is out of date; ask again.
        """
        known = self.read_known()
        return None if known is None else known.summary

    def read_known(self) -> Known | None:
        """Read what is known of all GPUs; None where there are none.

        Raises:
            SegmentGone: The index is out of date; ask again.
        """
        index = self._store.index()
        segments, known = index.segments, self._known
        if known is not None and known.segments is segments:
            return known
        if not segments:
            return None
        with self._lock:
            inventory = self._merge(segments).inventory
            known = Known(inventory, summarise(inventory), segments, self._store.version(index))
            self._inventories.keep_only({s.id for s in segments})
            self._known = known
        return known

    def _merge(self, segments: Sequence[SegmentInfo]) -> _Merged:
        """Merge the inventories of all segments: what is new to those merged last, or by kind."""
        if self._whole is None or not self._whole.ids <= {s.id for s in segments}:
            parts = []
            for kind in range(_KINDS):
                alike = [s for s in segments if min(s.level, _KINDS - 1) == kind]
                if alike:
                    self._kinds[kind] = self._extend(self._kinds.get(kind), alike)
                    parts.append(self._kinds[kind].inventory)
            self._whole = _Merged(frozenset(s.id for s in segments), merge_inventories(parts))
        else:
            self._whole = self._extend(self._whole, segments)
        return self._whole

    def _extend(self, merged: _Merged | None, segments: Sequence[SegmentInfo]) -> _Merged:
        """Merge the inventories of segments, onto those merged last where these are all among them."""
        ids = frozenset(s.id for s in segments)
        if merged is None or not merged.ids <= ids:
            return _Merged(ids, merge_inventories(self._read(segments)))
        added = [s for s in segments if s.id not in merged.ids]
        if not added:
            return merged
        return _Merged(ids, merge_inventories([merged.inventory, *self._read(added)]))

    def _read(self, segments: Sequence[SegmentInfo]) -> list[pa.Table]:
        """Read the inventory of each segment; of a fresh one it is taken from its records."""
        found = {s.id: self._inventories.get(s.id) for s in segments}
        missing = [s for s in segments if found[s.id] is None]
        found |= self._store.read_inventories([s for s in missing if s.level])
        fresh = [s for s in missing if not s.level]
        for segment, table in zip(fresh, self._store.read(fresh), strict=True):
            found[segment.id] = take_inventory(table)
        for segment in missing:
            self._inventories.put(segment.id, found[segment.id])
        return [found[s.id] for s in segments]


def newest_records(summary: pa.Table) -> pa.Table:
    """Turn a summary into one record per GPU, at its last time."""
    times = summary.column(LAST_MS).cast(TIMESTAMP)
    return summary.drop_columns([FIRST_MS, LAST_MS]).append_column("timestamp", times)


def with_status(summary: pa.Table, now_ms: int | None, stale_after_s: float) -> pa.Table:
    """Add a column STATUS: stale where the last record is older than allowed, else active.

    Measured against a time, or against the newest record of all where that is None.
    """
    before_ms = stale_before_ms(summary, now_ms, stale_after_s)
    stale = pc.less(summary.column(LAST_MS), before_ms)
    return summary.append_column(STATUS, pc.if_else(stale, "stale", "active"))


def stale_before_ms(summary: pa.Table, now_ms: int | None, stale_after_s: float) -> int:
    """Find the time, epoch ms, before which a last record makes a GPU stale, as for `with_status`."""
    reference = (pc.max(summary.column(LAST_MS)).as_py() or 0) if now_ms is None else now_ms
    return int(reference - stale_after_s * 1000)
