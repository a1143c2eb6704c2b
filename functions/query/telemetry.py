"""The REST answers that are records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from functions.query.answers import Answers
from functions.query.inventory import Inventory
from functions.query.records import GpuRecords, Window, find_segments, iter_many, limited
from functions.query.render import iter_envelope
from shared.api import telemetry as api
from shared.api.endpoint import Parameters
from shared.http import Route, stream_response
from shared.store.gpus import newest_records
from shared.store.read import Store


class Telemetry:
    """The routes of records."""

    def __init__(self, store: Callable[[], Store], inventory: Inventory) -> None:
        self._store = store
        self._inventory = inventory
        self._answers = Answers()

    def routes(self) -> list[Route]:
        """List what is served."""
        return [
            Route(api.GPU_TELEMETRY, self._gpu_telemetry),
            Route(api.TELEMETRY, self._telemetry),
            Route(api.LATEST, self._latest),
        ]

    def _gpu_telemetry(self, _request: Request, wanted: api.GpuTelemetryWanted) -> Response:
        window = Window(start_ms=wanted.start_time, end_ms=wanted.end_time)
        gpu, hostname, limit = wanted.gpu, wanted.hostname, wanted.limit
        uuid = gpu if hostname is None and not gpu.isdigit() else self._inventory.resolve(gpu, hostname)
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
            self._inventory.resolve(uuid, None)
            return _stream(iter(()))
        pieces = iter_envelope(itertools.chain([first], parts))
        return self._answers.answer(question, pieces, lambda: not records.retaken)

    def _telemetry(self, _request: Request, wanted: api.TelemetryWanted) -> Response:
        window = Window(start_ms=wanted.start_time, end_ms=wanted.end_time)
        limit = wanted.limit
        summary = self._inventory.summary()
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
        summary = self._inventory.summary()
        return _stream(iter(()) if summary is None else iter([newest_records(summary)]))


def _stream(parts: Iterator[pa.Table]) -> Response:
    return stream_response(iter_envelope(parts), "application/json")
