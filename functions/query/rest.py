"""The REST answers of query."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from functions.query.answers import Answers
from functions.query.records import GpuRecords, Window, find_segments, iter_many, limited
from functions.query.render import iter_envelope, render_gpus
from shared.api import query as api
from shared.api.endpoint import Parameters
from shared.errors import Conflict, NotFound
from shared.http import Route, data_response, stream_response
from shared.store.gpus import Gpus, newest_records, with_status
from shared.store.read import Store, read_again


class Rest:
    """The REST routes over one store."""

    def __init__(
        self,
        store: Callable[[], Store],
        gpus: Callable[[], Gpus],
        now_ms: Callable[[], int],
        stale_after_s: float,
    ) -> None:
        self._store = store
        self._gpus = gpus
        self._now_ms = now_ms
        self._stale_after_s = stale_after_s
        self._answers = Answers()

    def routes(self) -> list[Route]:
        """List what is served."""
        return [
            Route(api.LIST_GPUS, self._list_gpus),
            Route(api.GPU_TELEMETRY, self._gpu_telemetry),
            Route(api.LIST_HOSTS, self._list_hosts),
            Route(api.TELEMETRY, self._telemetry),
            Route(api.LATEST, self._latest),
        ]

    def _summary(self) -> pa.Table | None:
        return read_again(self._gpus().read)

    def _with_status(self, as_of: str) -> pa.Table | None:
        summary = self._summary()
        if summary is None:
            return None
        return with_status(summary, self._now_ms() if as_of == "now" else None, self._stale_after_s)

    def _list_gpus(self, _request: Request, wanted: api.GpusWanted) -> Response:
        summary = self._with_status(wanted.as_of)
        gpus = [] if summary is None else render_gpus(summary)
        gpus.sort(key=lambda g: (g["hostname"] or "", _numeric(g["id"] or ""), g["uuid"]))
        return data_response(gpus, count=len(gpus))

    def _list_hosts(self, _request: Request, wanted: api.GpusWanted) -> Response:
        summary = self._with_status(wanted.as_of)
        hosts: dict[str, dict[str, Any]] = {}
        for gpu in [] if summary is None else render_gpus(summary):
            name = gpu["hostname"]
            if name is None:
                continue
            host = hosts.setdefault(name, {"hostname": name, "status": "stale", "gpu_count": 0})
            host["gpu_count"] += 1
            if gpu["status"] == "active":
                host["status"] = "active"
        return data_response([hosts[name] for name in sorted(hosts)], count=len(hosts))

    def _gpu_telemetry(self, _request: Request, wanted: api.GpuTelemetryWanted) -> Response:
        window = Window(start_ms=wanted.start_time, end_ms=wanted.end_time)
        gpu, hostname, limit = wanted.gpu, wanted.hostname, wanted.limit
        uuid = gpu if hostname is None and not gpu.isdigit() else self._resolve(gpu, hostname)
        store = self._store()
        segments = find_segments(store, uuid, window)
        question = (uuid, window, limit, tuple(s.id for s in segments))
        kept = self._answers.find(question)
        if kept is not None:
            return kept
        records = GpuRecords(store, uuid, window, segments)
        parts = limited(records, limit)
        first = next(parts, None)
        if first is None:
            # Whether there is such a GPU is another question, and no answer is kept to it.
            self._resolve(uuid, None)
            return _stream(iter(()))
        pieces = iter_envelope(itertools.chain([first], parts))
        return self._answers.answer(question, pieces, lambda: not records.retaken)

    def _telemetry(self, _request: Request, wanted: api.TelemetryWanted) -> Response:
        window = Window(start_ms=wanted.start_time, end_ms=wanted.end_time)
        limit = wanted.limit
        summary = self._summary()
        if summary is None:
            return _stream(iter(()))
        # GPUs whose records all lie outside the window need not be looked for.
        low, high = window.start_ms, window.end_ms
        first_ms, last_ms = summary.column("first_ms"), summary.column("last_ms")
        keep = pc.and_(
            pc.greater_equal(last_ms, -(2**62) if low is None else low),
            pc.less(first_ms, 2**62 if high is None else high),
        )
        uuids = summary.filter(keep).column("uuid").to_pylist()
        parts = limited(iter_many(self._store(), uuids, window, limit), limit)
        first = next(parts, None)
        return _stream(iter(()) if first is None else itertools.chain([first], parts))

    def _latest(self, _request: Request, _wanted: Parameters) -> Response:
        """Answer one record per GPU: its last time, and of each field the newest value that was reported."""
        summary = self._summary()
        return _stream(iter(()) if summary is None else iter([newest_records(summary)]))

    def _resolve(self, gpu: str, hostname: str | None) -> str:
        """Find the uuid that an id means: the uuid itself, or an index on a host.

        Raises:
            NotFound: No such GPU.
            Conflict: Several hosts have a GPU of that index; names them.
        """
        summary = self._summary()
        rows = [] if summary is None else summary.to_pylist()
        found = [r for r in rows if r["uuid"] == gpu and hostname in (None, r.get("hostname"))]
        if not found:
            found = [r for r in rows if r.get("gpu_id") == gpu and hostname in (None, r.get("hostname"))]
        if not found:
            where = "" if hostname is None else f" on host {hostname!r}"
            raise NotFound(f"there is no GPU {gpu!r}{where}: /api/v1/gpus lists them")
        if len(found) > 1:
            candidates = [{"uuid": r["uuid"], "hostname": r.get("hostname")} for r in found]
            raise Conflict(
                f"{len(found)} GPUs are {gpu!r}: say which by its uuid, or with hostname=",
                candidates=candidates[:100],
            )
        return str(found[0]["uuid"])


def _stream(parts: Iterator[pa.Table]) -> Response:
    return stream_response(iter_envelope(parts), "application/json")


def _numeric(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isascii() and text.isdigit() else (2**31, text)
