"""The uploads, newest first, page by page.

etcd lists in order of keys, oldest first, and sorting the other way it would read everything. So the time at
which a page begins is looked for: counting keys in a range is cheap, and the keys begin with their time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from flask import Request, Response

from shared.errors import InvalidInput
from shared.etcd import Etcd, Get, prefix_end
from shared.http import Route, data_response, parse_count
from shared.ingest.report import format_ms
from shared.keys import Keys, is_upload_id

DEFAULT_LIMIT = 50
#: A record that lists a hundred bad cells is some 30 KB.
MAX_LIMIT = 500

_SHOWN = (
    "filename", "bytes", "dialect", "rows", "accepted", "rejected", "gpus", "hosts", "first_timestamp",
    "last_timestamp", "messages",
)  # fmt: skip
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
    """The route that lists uploads."""

    def __init__(self, etcd: Callable[[], Etcd], keys: Keys) -> None:
        self._etcd = etcd
        self._keys = keys

    def routes(self) -> list[Route]:
        """List what is served."""
        return [Route("GET", "/api/v1/uploads", self._list, ("limit", "before", "full"))]

    def _list(self, request: Request) -> Response:
        limit = min(parse_count(request.args.get("limit"), "limit", default=DEFAULT_LIMIT) or 0, MAX_LIMIT)
        before = request.args.get("before")
        if before is not None and not is_upload_id(before):
            raise InvalidInput(f"before={before!r}: expected the id of an upload", parameter="before")
        full = request.args.get("full", "false")
        if full not in ("true", "false"):
            raise InvalidInput(f"full={full!r}: expected true or false", parameter="full")
        records = self._read(before, limit + 1)
        page = records[:limit]
        states = self._states(page)
        data = [self._show(record, states, full=full == "true") for record in page]
        more = len(records) > limit
        return data_response(data, count=len(data), next=page[-1]["upload_id"] if more else None)

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
