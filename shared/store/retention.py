"""Retention: whole ingestion days leave the store, by exact keys, once they are old enough.

By event time, last year's file would be deleted as it comes; so it goes by the day on which an upload was
received, which is part of the index key. A day that is half swept is swept on by the next tick.

A tick that only its own clock vouches for counts back from no later than the end of the newest day stored: a
clock that is further ahead is wrong, or nothing was uploaded since, and then nothing needs the room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import orjson

from shared.etcd import Compare, Delete, Etcd, Get, KeyValue, Operation
from shared.keys import Keys, ingestion_day, upload_prefix_of
from shared.store.read import Store
from shared.store.segment import SegmentInfo
from shared.store.write import delete_operations, ring, still_there

_DAY_MS = 86_400_000
#: Segments that one transaction deletes, three keys each.
_AT_ONCE = 40
_PAGE = 500
#: Transactions that others were faster than, after which the rest is left to the next tick.
_MOST_LOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What one ingestion day holds, YYYYMMDD."""

    day: str
    segments: int
    rows: int
    bytes: int
    uploads: int
    expired: bool


def parse_retention(retention: str) -> int | None:
    """Read the setting: so many days, None for `off`."""
    return None if retention == "off" else int(retention.removesuffix("d"))


def decide_cutoff(retention: str, now_ms: int) -> str:
    """Decide the first ingestion day that is kept: every upload is kept for at least so many days.

    With `off` it is the beginning of time.
    """
    days = parse_retention(retention)
    if days is None:
        return ""
    return ingestion_day(max(now_ms - days * _DAY_MS, 0))


def decide_time(now_ms: int, newest_day: str) -> int:
    """Decide from when a tick counts back, epoch ms: from now, but no later than the end of a day."""
    return min(now_ms, _start_ms(newest_day) + _DAY_MS - 1)


def _start_ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


class Retention:
    """Surveys and sweeps one store."""

    def __init__(self, etcd: Etcd, keys: Keys, store: Store, retention: str) -> None:
        self._etcd = etcd
        self._keys = keys
        self._store = store
        self._retention = retention

    def survey(self, now_ms: int) -> list[Day]:
        """Tell what each day holds, and whether it has expired."""
        cutoff = decide_cutoff(self._retention, now_ms)
        days = []
        for day, segments in _by_day(self._store.index().segments):
            days.append(
                Day(
                    day=day,
                    segments=len(segments),
                    rows=sum(s.rows for s in segments),
                    bytes=sum(s.size_bytes for s in segments),
                    uploads=self._count_uploads(day),
                    expired=day < cutoff,
                )
            )
        return days

    def sweep(self, now_ms: int) -> list[Day]:
        """Delete what has expired; returns what was there. Killed at any point, the next call goes on."""
        cutoff = decide_cutoff(self._retention, now_ms)
        expired = [day for day in self.survey(now_ms) if day.expired]
        lost = 0
        while gone := [s for s in self._store.index().segments if s.day < cutoff][:_AT_ONCE]:
            # Where one of them was folded or adopted meanwhile, nothing happens, and the index has it anew.
            operations = [*delete_operations(self._keys, gone), ring(self._keys)]
            lost += not self._etcd.txn(still_there(self._keys, gone), operations).succeeded
            if lost > _MOST_LOST:
                break
        if cutoff:
            self._sweep_uploads(cutoff)
        return expired

    def sweep_unattended(self, now_ms: int) -> list[Day]:
        """Delete what has expired, but nothing for the mere passing of time that only one clock tells of."""
        newest = max((s.day for s in self._store.index().segments), default=None)
        return [] if newest is None else self.sweep(decide_time(now_ms, newest))

    def _count_uploads(self, day: str) -> int:
        start_ms = _start_ms(day)
        low, high = (
            self._keys.uploads_prefix + upload_prefix_of(ms) for ms in (start_ms, start_ms + _DAY_MS)
        )
        return self._etcd.read(Get(low, high, count_only=True)).count

    def _sweep_uploads(self, cutoff: str) -> None:
        """Forget the records and marks of uploads before a day; one that was imported since is kept."""
        before_ms = _start_ms(cutoff)
        for prefix in (self._keys.uploads_prefix, self._keys.deleted_prefix):
            start, end = prefix, prefix + upload_prefix_of(before_ms)
            while items := self._etcd.read(Get(start, end, _PAGE)).items:
                old = [i for i in items if _is_old(orjson.loads(i.value), before_ms)]
                for place in range(0, len(old), _AT_ONCE):
                    self._delete(old[place : place + _AT_ONCE])
                start = items[-1].key + "\0"

    def _delete(self, items: Sequence[KeyValue]) -> None:
        there = [Compare(i.key, "mod", "=", i.mod_revision) for i in items]
        gone: list[Operation] = [Delete(i.key) for i in items]
        self._etcd.txn(there, gone)


def _is_old(value: dict[str, Any], before_ms: int) -> bool:
    """Tell whether a record or mark may be forgotten: not what came later, nor an undoing that goes on."""
    later = max(value.get("imported_at", 0), value.get("at_ms", 0))
    return later < before_ms and value.get("state") != "deleting"


def _by_day(segments: Iterable[SegmentInfo]) -> list[tuple[str, list[SegmentInfo]]]:
    ordered = sorted(segments, key=lambda s: s.day)
    return [(day, list(group)) for day, group in groupby(ordered, key=lambda s: s.day)]
