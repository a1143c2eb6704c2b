"""The uploads: all of them newest first, one with its state, and the undoing of one.

etcd lists in order of keys, oldest first, and sorting the other way it would read everything. So the time at
which a page begins is looked for: counting keys in a range is cheap, and the keys begin with their time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
from flask import Request, Response

from shared import clock
from shared.api import upload as api
from shared.errors import NotFound
from shared.etcd import Etcd, Get, prefix_end
from shared.http import Route, data_response, json_response
from shared.ingest.report import format_ms
from shared.keys import Keys
from shared.queue import Queue

_SHOWN = (
    "filename", "bytes", "dialect", "rows", "accepted", "rejected", "gpus", "hosts", "first_timestamp",
    "last_timestamp", "messages",
)  # fmt: skip
#: Undoing reads a segment once.
_UNDO_CACHE_BYTES = 1024 * 1024
#: What no upload's time reaches: twelve hexadecimal digits.
_END_MS = 1 << 48


def find_start(count_from: Callable[[int], int], low_ms: int, high_ms: int, wanted: int) -> int:
    """Find a time from which on there are at least `wanted` uploads and not many more.

    Args:
        count_from: How many uploads there are from a time on; falls as the time grows.
        low_ms: The time of the first upload.
        high_ms: A time after the last one.
        wanted: How many are wanted; where there are fewer, the answer is `low_ms`.
    """
    if count_from(low_ms) <= 2 * wanted:
        return low_ms
    while high_ms - low_ms > 1:
        middle = (low_ms + high_ms) // 2
        count = count_from(middle)
        if wanted <= count <= 2 * wanted:
            return middle
        if count < wanted:
            high_ms = middle
        else:
            low_ms = middle
    return low_ms


class Uploads:
    """The routes of uploads that were made."""

    def __init__(self, etcd: Callable[[], Etcd], keys: Keys) -> None:
        self._etcd = etcd
        self._keys = keys

    def routes(self) -> list[Route]:
        """List what is served."""
        return [
            Route(api.LIST_UPLOADS, self._list),
            Route(api.GET_UPLOAD, self._get),
            Route(api.DELETE_UPLOAD, self._delete),
        ]

    def _list(self, _request: Request, wanted: api.UploadsPage) -> Response:
        limit = min(wanted.limit, api.MAX_LIMIT)
        records = self._read(wanted.before, limit + 1)
        page = records[:limit]
        states = self._states(page)
        data = [self._show(record, states, full=wanted.full) for record in page]
        more = len(records) > limit
        return data_response(data, count=len(data), next=page[-1]["upload_id"] if more else None)

    def _get(self, _request: Request, wanted: api.OneUpload) -> Response:
        upload = wanted.upload
        # The record first: a message counted as gone after it was read can only be stored.
        found = self._etcd().get(self._keys.upload(upload))
        if found is None:
            raise NotFound(f"there is no upload {upload}")
        queued, dead = Queue(self._etcd(), self._keys).count_of_upload(upload)
        mark = self._etcd().get(self._keys.deleted(upload))
        state = "queued" if queued else "dead" if dead else "stored"
        return data_response({
            **orjson.loads(found.value),
            "state": state if mark is None else orjson.loads(mark.value)["state"],
            "messages_queued": queued,
            "messages_dead": dead,
        })  # fmt: skip

    def _delete(self, _request: Request, wanted: api.Undoing) -> Response:
        """Undo an upload: 200 once all of it is gone, 202 where a tick has to go on with it."""
        # Imported where it is used: a cold upload never needs it.
        from shared.store.read import Store  # noqa: PLC0415
        from shared.undo import Undo  # noqa: PLC0415

        store = Store(self._etcd(), self._keys, _UNDO_CACHE_BYTES)
        undo = Undo(self._etcd(), self._keys, store, clock.now_ms)
        undone = undo.look(wanted.upload) if wanted.dry_run else undo.delete(wanted.upload)
        fields = asdict(undone)
        first, last = (fields.pop(name) for name in ("first_ms", "last_ms"))
        fields["gpus"] = len(undone.gpus)
        fields["first_timestamp"] = None if first is None else format_ms(first)
        fields["last_timestamp"] = None if last is None else format_ms(last)
        return json_response({"success": True, "data": fields}, 202 if undone.state == "deleting" else 200)

    def _read(self, before: str | None, wanted: int) -> list[dict[str, Any]]:
        """Read the newest records before an upload, newest first."""
        prefix = self._keys.uploads_prefix
        end = prefix_end(prefix) if before is None else self._keys.upload(before)
        first = self._etcd().read(Get(prefix, end, 1)).items
        if not first:
            return []

        def count_from(ms: int) -> int:
            return self._etcd().read(Get(self._keys.upload(f"{ms:012x}"), end, count_only=True)).count

        low_ms = _time_of(first[0].key.removeprefix(prefix))
        high_ms = _END_MS if before is None else _time_of(before) + 1
        start = find_start(count_from, low_ms, high_ms, wanted)
        items = self._etcd().read(Get(self._keys.upload(f"{start:012x}"), end)).items
        return [orjson.loads(item.value) for item in reversed(items[-wanted:])]

    def _states(self, page: list[dict[str, Any]]) -> dict[str, str]:
        """Read which of the uploads of a page were undone, or are being."""
        if not page:
            return {}
        low, high = self._keys.deleted(page[-1]["upload_id"]), self._keys.deleted(page[0]["upload_id"])
        found = self._etcd().read(Get(low, high + "\0")).items
        prefix = self._keys.deleted_prefix
        return {item.key.removeprefix(prefix): orjson.loads(item.value)["state"] for item in found}

    def _show(self, record: dict[str, Any], states: dict[str, str], *, full: bool) -> dict[str, Any]:
        upload = record["upload_id"]
        shown = {
            "upload_id": upload,
            "received_at": format_ms(record["received_at"]),
            **{name: record.get(name) for name in _SHOWN},
            "imported": bool(record.get("imported")),
        }
        if "imported_at" in record:
            shown["imported_at"] = format_ms(record["imported_at"])
        if upload in states:
            shown["state"] = states[upload]
        return {**shown, "record": record} if full else shown


def _time_of(upload_id: str) -> int:
    return int(upload_id[:12], 16)
