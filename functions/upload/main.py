"""upload: takes CSV and publishes it; answers once every accepted row is durable in etcd."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

import functions_framework
from flask import Request, Response

import shared.boot  # noqa: F401  (before all others)
from functions.upload.body import Body
from functions.upload.pipeline import Pipeline
from shared import clock
from shared.api import upload as api
from shared.api.endpoint import Parameters
from shared.errors import Transient
from shared.etcd_metrics import MEMORY, read_metrics
from shared.http import Counts, EtcdHolder, Route, Service, data_response, report_response, start
from shared.http.metrics import metrics_route
from shared.keys import Keys, new_upload_id
from shared.messages import Origin
from shared.queue import Queue
from shared.queue.admission import Limits
from shared.queue.gate import Gate, Gauge

log = logging.getLogger(__name__)

#: Seconds for which status answers what it read last, and for which it waits for another that reads.
_STATE_CACHE_S = 1.0
_STATE_WAIT_S = 2.6

_config = start("upload")
_etcd = EtcdHolder(_config)
_counts = Counts()
_keys = Keys(_config.message_queue_prefix)


class _CachedState:
    """How queue and etcd are, read at most once a second however often it is asked for."""

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._at = -_STATE_CACHE_S
        self._state: dict[str, Any] | None = None

    def read(self) -> dict[str, Any]:
        # Whoever waits for another's question does not ask its own after it: 503 must come within 3 s.
        if not self._lock.acquire(timeout=_STATE_WAIT_S):
            raise Transient
        try:
            now = time.monotonic()
            if now - self._at >= _STATE_CACHE_S:
                self._state = None
                try:
                    self._state = self._read()
                finally:
                    # A failure is kept as long as an answer: those who waited for it share it.
                    self._at = time.monotonic()
            if self._state is None:
                raise Transient
            return self._state
        finally:
            self._lock.release()


@cache
def _gauge() -> Gauge:
    etcd = _etcd()
    return Gauge(etcd, Queue(etcd, _keys), _config.endpoints(), _config.etcd_quota_bytes)


@cache
def _gate() -> Gate:
    limits = Limits(messages=_config.max_queue_messages, bytes=_config.max_queue_bytes)
    return Gate(_gauge().read, limits)


def _post_csv(request: Request, wanted: api.UploadFile) -> Response:
    began = time.monotonic()
    received_ms = clock.now_ms()
    _gate().check()
    body = Body(request, _config.max_upload_size, filename=wanted.filename)
    origin = Origin(
        upload_id=new_upload_id(received_ms),
        received_ms=received_ms,
        cluster=_config.cluster_id,
        traceparent=request.headers.get("traceparent", "")[:64],
    )
    pipeline = Pipeline(Queue(_etcd(), _keys), _keys, origin, _gate().admit)
    layout = pipeline.run(body.read)
    for sentence in body.warnings:
        pipeline.report.warn(sentence)
    report: dict[str, Any] = {
        "upload_id": origin.upload_id,
        "filename": body.filename,
        "bytes": body.bytes,
        "sha256": body.sha256(),
        "dialect": layout.kind,
        **pipeline.report.as_dict(),
        "messages": pipeline.messages,
        "headers": layout.heads,
    }
    # The heads are left out of the record: with the last message it must fit into one transaction.
    pipeline.finish({**{k: v for k, v in report.items() if k != "headers"}, "received_at": received_ms})
    report["duration_ms"] = round((time.monotonic() - began) * 1000, 1)
    log.info(
        "%s: %d of %d rows accepted",
        body.filename or "upload",
        report["accepted"],
        report["rows"],
        extra={"action": "uploaded", "upload_id": origin.upload_id, "bytes": body.bytes},
    )
    return report_response(report, report["accepted"])


def _read_state() -> dict[str, Any]:
    queue = asdict(Queue(_etcd(), _keys).depth(clock.now_ms()))
    member = _etcd().status()._asdict()
    memory_bytes = read_metrics(_config.endpoints(), [MEMORY]).get(MEMORY)
    etcd = {
        "endpoints": _config.endpoints(),
        **member,
        "quota_bytes": _gauge().read_quota(),
        "memory_bytes": None if memory_bytes is None else int(memory_bytes),
    }
    return {"queue": queue, "etcd": etcd}


_state = _CachedState(_read_state)


def _status(_request: Request, _wanted: Parameters) -> Response:
    config = _config.model_dump()
    return data_response({
        **_service.about(),
        "uptime_s": round(time.monotonic() - _service.started, 1),
        **_state.read(),
        "config": {name.upper(): value for name, value in config.items()},
    })  # fmt: skip


def _build_further() -> list[Route]:
    """Build what a start from zero for an upload does not wait for."""
    from functions.upload.imports import Imports  # noqa: PLC0415
    from functions.upload.uploads import Uploads  # noqa: PLC0415

    return [*Uploads(_etcd, _keys).routes(), *Imports(_etcd, _keys, _config, _gate).routes()]


_service = Service(
    "upload",
    [
        Route(api.UPLOAD_CSV, _post_csv),
        Route(api.STATUS, _status),
        metrics_route("upload", _counts.snapshot),
    ],
    _etcd,
    _config,
    _counts,
    build_further=_build_further,
)


@functions_framework.http
def upload(request: Request) -> Response:
    """Answer a request to the upload function."""
    return _service(request)
