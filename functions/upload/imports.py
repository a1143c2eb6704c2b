"""Importing: rows that were exported come back with the versions they had, and so do the records of uploads.

An import is an upload itself: its rows travel through the queue in its messages and enter the store today.
But each row is of the version it brings along, so an import never outdoes what was uploaded later, and
importing twice changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson
from flask import Request, Response

from functions.upload.arrow_rows import iter_rows
from functions.upload.body import Body
from functions.upload.pipeline import Pipeline, encode_all
from shared import clock
from shared.api import upload as api
from shared.api.endpoint import Parameters
from shared.clock import MAX_TIME_MS
from shared.config import Settings
from shared.errors import InvalidInput, LimitExceeded, NothingAccepted
from shared.etcd import Etcd, Put, absent
from shared.http import Route, data_response, report_response
from shared.keys import Keys, is_upload_id, new_upload_id
from shared.messages import Origin
from shared.queue import Queue
from shared.queue.gate import Gate

log = logging.getLogger(__name__)

#: Decoded bytes of one message: encoded about 200 KB.
_DECODED_BYTES = 2 * 1024 * 1024
#: The records of uploads that one request may bring, and one of them: it must fit into a put.
MAX_RECORDS_BYTES = 16 * 1024 * 1024
MAX_RECORD_BYTES = 512 * 1024

#: What is shown of an upload, and what it has to be where it is there.
_COUNTS = ("bytes", "rows", "accepted", "rejected", "gpus", "hosts", "messages")
_TEXTS = ("filename", "sha256", "dialect", "first_timestamp", "last_timestamp")
_LISTS = {"errors": dict, "warnings": str}


class Imports:
    """The routes of importing."""

    def __init__(
        self, etcd: Callable[[], Etcd], keys: Keys, config: Settings, gate: Callable[[], Gate]
    ) -> None:
        self._etcd = etcd
        self._gate = gate
        self._keys = keys
        self._config = config

    def routes(self) -> list[Route]:
        """List what is served."""
        return [
            Route(api.IMPORT_ROWS, self._post_rows),
            Route(api.IMPORT_UPLOADS, self._post_uploads),
        ]

    def _post_rows(self, request: Request, wanted: api.UploadFile) -> Response:
        began = time.monotonic()
        received_ms = clock.now_ms()
        self._gate().check()
        body = Body(request, self._config.max_upload_size, (api.ARROW,), filename=wanted.filename)
        origin = Origin(
            upload_id=new_upload_id(received_ms),
            received_ms=received_ms,
            cluster=self._config.cluster_id,
            traceparent=request.headers.get("traceparent", "")[:64],
        )
        pipeline = Pipeline(Queue(self._etcd(), self._keys), self._keys, origin, self._gate().admit)
        with pipeline.publishing():
            for table, report in iter_rows(body.read):
                pipeline.take(encode_all(table, origin, pipeline.messages, _DECODED_BYTES), report)
        if not pipeline.messages:
            raise NothingAccepted("the stream has no rows", **pipeline.report.as_dict())
        record: dict[str, Any] = {
            "upload_id": origin.upload_id,
            "filename": body.filename,
            "bytes": body.bytes,
            "sha256": body.sha256(),
            "dialect": "arrow",
            "imported": True,
            **pipeline.report.as_dict(),
            "messages": pipeline.messages,
        }
        pipeline.finish({**record, "received_at": received_ms})
        log.info(
            "%s: %d rows imported",
            body.filename or "import",
            record["accepted"],
            extra={"action": "imported", "upload_id": origin.upload_id, "bytes": body.bytes},
        )
        record["duration_ms"] = round((time.monotonic() - began) * 1000, 1)
        return report_response(record, record["accepted"])

    def _post_uploads(self, request: Request, _wanted: Parameters) -> Response:
        self._gate().check()
        records = parse_records(_read_all(request), clock.now_ms())
        put = 0
        for upload_id, value in records:
            self._gate().admit(len(value))
            key = self._keys.upload(upload_id)
            put += self._etcd().txn([absent(key)], [Put(key, value)]).succeeded
        log.info("%d records of uploads imported", put, extra={"action": "imported_uploads"})
        return data_response({"put": put, "present": len(records) - put})


def _read_all(request: Request) -> bytes:
    body = Body(request, MAX_RECORDS_BYTES, (api.NDJSON,))
    pieces = []
    while piece := body.read(1024 * 1024):
        pieces.append(piece)
    return b"".join(pieces)


def parse_records(data: bytes, now_ms: int) -> list[tuple[str, bytes]]:
    """Read records of uploads, one JSON object a line, as an export has them; returns ids and what is put.

    Raises:
        InvalidInput: One is not; names the line, and what would be right.
        LimitExceeded: One is larger than fits into a put.
    """
    out = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        if len(line) > MAX_RECORD_BYTES:
            raise LimitExceeded(f"line {number} has {len(line)} bytes, at most {MAX_RECORD_BYTES} are taken")
        try:
            record = orjson.loads(line)
        except ValueError as exc:
            raise InvalidInput(f"line {number} is not JSON: {exc}", line=number) from exc
        wrong = find_wrong_field(record)
        if wrong:
            raise InvalidInput(f"line {number} is not the record of an upload: {wrong}", line=number)
        try:
            value = orjson.dumps({**record, "imported": True, "imported_at": now_ms})
        except TypeError as exc:
            raise InvalidInput(f"line {number} cannot be kept: {exc}", line=number) from exc
        out.append((record["upload_id"], value))
    if not out:
        raise NothingAccepted("there is no record of an upload in it")
    return out


def find_wrong_field(record: Any) -> str:
    """Say what is wrong with the record of an upload; empty where nothing is."""
    if not isinstance(record, dict):
        return "expected an object"
    upload, received = record.get("upload_id"), record.get("received_at")
    if not isinstance(upload, str) or not is_upload_id(upload):
        return f"upload_id is {str(upload)[:60]!r}: expected such as 0123456789ab-0123456789ab"
    if not isinstance(received, int) or not 0 <= received < MAX_TIME_MS:
        return "received_at: expected epoch milliseconds"
    for name in _COUNTS:
        value = record.get(name, 0)
        if not isinstance(value, int) or value < 0:
            return f"{name}: expected a whole number of at least 0"
    texts = [name for name in _TEXTS if not isinstance(record.get(name) or "", str)]
    lists = [name for name, kind in _LISTS.items() if not _are(record.get(name), kind)]
    if texts:
        return f"{texts[0]}: expected a text"
    return f"{lists[0]}: expected a list, of objects in errors and of texts in warnings" if lists else ""


def _are(values: Any, kind: type) -> bool:
    """Tell whether a value is a list of such, or not there at all."""
    return values is None or (isinstance(values, list) and all(isinstance(v, kind) for v in values))
