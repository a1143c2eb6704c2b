"""Undoing an upload: its messages leave the queue, its rows the store, and nothing more is accepted of it.

The steps, and what a crash between them leaves:

  mark     `deleted/<upload>` says `deleting`: publishing to it is refused from now on
  queue    ready, payload and claim of each message go in one transaction: a collector that holds one loses it
  store    segment by segment, each replaced by itself without the rows; whatever was folded meanwhile is
           looked through again, until a whole pass over the index finds nothing
  mark     says `deleted`, and how many rows went

A tick goes on with whatever still says `deleting`. Rows that the upload had covered do not come back:
compaction may have dropped them long ago.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import NotFound
from shared.etcd import Etcd, Get, Put, prefix_end
from shared.keys import Keys
from shared.queue import Queue
from shared.queue.uploads import drop_upload, size_of_upload
from shared.records import chunk
from shared.store.read import SegmentGone, Store
from shared.store.replace import replace
from shared.store.segment import SegmentInfo, decode, holds_upload
from shared.store.write import build_run

log = logging.getLogger(__name__)

#: Seconds that one request works at it; a tick goes on.
BUDGET_S = 20.0
_PAGE = 100
_WARNING = "values that this upload had overwritten do not come back: upload the older file again for them"


@dataclass(slots=True, kw_only=True)
class Undone:
    """What of an upload went, or would go."""

    upload_id: str
    #: `deleted`, `deleting` (a tick goes on), or `would be deleted`.
    state: str
    rows: int = 0
    messages: int = 0
    segments: int = 0
    gpus: set[str] = field(default_factory=set)
    first_ms: int | None = None
    last_ms: int | None = None
    warnings: list[str] = field(default_factory=lambda: [_WARNING])

    def add(self, table: pa.Table) -> None:
        """Take account of rows of the upload in one segment."""
        times = pc.min_max(chunk(table, "timestamp").cast(pa.int64()))
        low, high = times["min"].as_py(), times["max"].as_py()
        self.rows += table.num_rows
        self.segments += 1
        self.gpus |= set(pc.unique(chunk(table, "uuid").cast(pa.string())).to_pylist())
        self.first_ms = low if self.first_ms is None else min(low, self.first_ms)
        self.last_ms = high if self.last_ms is None else max(high, self.last_ms)


class Undo:
    """Undoes uploads of one pipeline.

    Raises Transient from any call when etcd goes away: what was begun is gone on with by a tick.
    """

    def __init__(self, etcd: Etcd, keys: Keys, store: Store, now_ms: Callable[[], int]) -> None:
        self._etcd = etcd
        self._keys = keys
        self._queue = Queue(etcd, keys)
        self._store = store
        self._now_ms = now_ms

    def look(self, upload_id: str) -> Undone:
        """Tell what would go, and change nothing.

        Raises:
            NotFound: Nothing is known of the upload, and no row is of it.
        """
        self.look_for(upload_id)
        mark = self._read_mark(upload_id)
        out = Undone(upload_id=upload_id, state=str(mark.get("state", "would be deleted")))
        out.messages, out.rows = size_of_upload(self._etcd, self._keys, upload_id)
        for _, table in self._iter_holding(upload_id):
            out.add(_rows_of(table, upload_id, own=True))
        return out

    def delete(self, upload_id: str, budget_s: float = BUDGET_S) -> Undone:
        """Delete all of an upload that is in the queue and in the store; again is fine.

        Raises:
            NotFound: Nothing is known of the upload, and no row is of it.
        """
        mark = self._read_mark(upload_id)
        if not mark:
            self.look_for(upload_id)
            mark = {"at_ms": self._now_ms(), "rows": 0}
        mark["state"] = "deleting"
        self._write_mark(upload_id, mark)
        return self._go_on(upload_id, mark, time.monotonic() + budget_s)

    def look_for(self, upload_id: str) -> None:
        """Check that there is such an upload: its record, a message, or at least one row.

        Raises:
            NotFound: There is not.
        """
        known = (self._keys.upload(upload_id), self._keys.deleted(upload_id))
        if any(self._etcd.get(key) for key in known) or any(self._queue.count_of_upload(upload_id)):
            return
        if next(self._iter_holding(upload_id), None) is None:
            raise NotFound(f"there is no upload {upload_id}")

    def go_on(self, budget_s: float) -> int:
        """Go on with what was begun and not finished; returns how many uploads are finished now."""
        deadline = time.monotonic() + budget_s
        finished = 0
        for upload_id, mark in self._iter_marks():
            if time.monotonic() < deadline and mark["state"] == "deleting":
                finished += self._go_on(upload_id, mark, deadline).state == "deleted"
        return finished

    def _go_on(self, upload_id: str, mark: dict[str, object], deadline: float) -> Undone:
        out = Undone(upload_id=upload_id, state="deleting")
        out.messages, out.rows = drop_upload(self._etcd, self._keys, upload_id)
        done = self._clear_store(upload_id, out, deadline)
        mark = {**mark, "rows": int(str(mark["rows"])) + out.rows}
        if done:
            out.state = mark["state"] = "deleted"
        self._write_mark(upload_id, mark)
        log.info(
            "upload %s: %s",
            upload_id,
            out.state,
            extra={"action": "undone", "upload_id": upload_id, "rows": out.rows, "state": out.state},
        )
        return out

    def _clear_store(self, upload_id: str, out: Undone, deadline: float) -> bool:
        """Take the upload's rows out of every segment; False where the time was up before that."""
        for segment, table in self._iter_holding(upload_id):
            rest = _rows_of(table, upload_id, own=False)
            size = segment.size_bytes * rest.num_rows // max(table.num_rows, 1)
            level = max(segment.level, 1)
            outputs = build_run(rest, day=segment.day, level=level, expected_bytes=size)
            if replace(self._etcd, self._keys, [segment], outputs, self._now_ms()):
                out.add(_rows_of(table, upload_id, own=True))
            # Else it was folded or adopted meanwhile: the next pass finds what it has become.
            if time.monotonic() > deadline:
                return False
        return True

    def _iter_holding(self, upload_id: str) -> Iterator[tuple[SegmentInfo, pa.Table]]:
        """Yield segments with rows of an upload, until a whole pass over the index finds none that is new.

        The receiver may replace them as they come. One that was adopted is the same by its id, but stands in
        the index anew: it is looked at again.
        """
        seen: set[tuple[str, int]] = set()
        while True:
            found = [
                s
                for s in self._store.index().segments
                if s.min_upload <= upload_id <= s.max_upload and (s.id, s.revision) not in seen
            ]
            if not found:
                return
            for segment in found:
                try:
                    payload = self._store.read_payload(segment)
                except SegmentGone:
                    break
                seen.add((segment.id, segment.revision))
                if holds_upload(payload, upload_id):
                    yield segment, decode(payload)

    def _read_mark(self, upload_id: str) -> dict[str, object]:
        found = self._etcd.get(self._keys.deleted(upload_id))
        return {} if found is None else dict(orjson.loads(found.value))

    def _write_mark(self, upload_id: str, mark: dict[str, object]) -> None:
        self._etcd.txn([], [Put(self._keys.deleted(upload_id), orjson.dumps(mark))])

    def _iter_marks(self) -> Iterator[tuple[str, dict[str, object]]]:
        start, end = self._keys.deleted_prefix, prefix_end(self._keys.deleted_prefix)
        while items := self._etcd.read(Get(start, end, _PAGE)).items:
            for item in items:
                yield item.key.removeprefix(self._keys.deleted_prefix), orjson.loads(item.value)
            start = items[-1].key + "\0"


def _rows_of(table: pa.Table, upload_id: str, *, own: bool) -> pa.Table:
    """Keep the rows of an upload, or all others."""
    mine = pc.equal(chunk(table, "upload_id").cast(pa.string()), upload_id)
    return table.filter(mine if own else pc.invert(mine)).combine_chunks()
