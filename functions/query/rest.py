"""The REST answers of query."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from functions.query.answers import Answers
from functions.query.records import GpuRecords, Window, find_segments, iter_many, limited
from functions.query.render import iter_envelope, render_gpus
from shared.errors import Conflict, InvalidInput, NotFound
from shared.http import Route, data_response, parse_count, stream_response
from shared.store.gpus import Gpus, newest_records, with_status
from shared.store.read import Store, read_again

#: How many records /api/v1/telemetry answers unless told.
DEFAULT_LIMIT = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}| \d{2}:\d{2}))?)?"
)


def parse_time_ms(text: str | None, name: str) -> int | None:
    """Read a parameter that is a time, as epoch milliseconds; one without a zone is UTC.

    A `+` that a client did not encode arrives as a space: it is taken for the plus it was.

    Raises:
        InvalidInput: It is something else.
    """
    if text is None:
        return None
    fixed = re.sub(r"(:\d{2}(?:\.\d+)?) (\d{2}:?\d{2})$", r"\1+\2", text)
    try:
        if not _TIME.fullmatch(fixed):
            raise ValueError
        time = datetime.fromisoformat(fixed)
    except ValueError:
        raise InvalidInput(
            f"{name}={text!r}: expected RFC 3339 such as 2024-01-15T10:30:00Z", parameter=name
        ) from None
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    # A fraction of a millisecond is rounded up: [start, end) of whole milliseconds means the same then.
    return since.days * 86_400_000 + since.seconds * 1000 - (-since.microseconds // 1000)


def parse_window(request: Request) -> Window:
    """Read start_time (inclusive) and end_time (exclusive)."""
    start, end = (parse_time_ms(request.args.get(name), name) for name in ("start_time", "end_time"))
    if start is not None and end is not None and start > end:
        raise InvalidInput("start_time is after end_time: the window is [start_time, end_time)")
    return Window(start_ms=start, end_ms=end)


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
        window = ("start_time", "end_time", "limit")
        return [
            Route("GET", "/api/v1/gpus", self._list_gpus, ("as_of",)),
            Route("GET", "/api/v1/gpus/{gpu}/telemetry", self._gpu_telemetry, (*window, "hostname")),
            Route("GET", "/api/v1/hosts", self._list_hosts, ("as_of",)),
            Route("GET", "/api/v1/telemetry", self._telemetry, window),
            Route("GET", "/api/v1/telemetry/latest", self._latest),
        ]

    def _summary(self) -> pa.Table | None:
        return read_again(self._gpus().read)

    def _with_status(self, request: Request) -> pa.Table | None:
        as_of = request.args.get("as_of", "now")
        if as_of not in ("now", "latest"):
            raise InvalidInput(f"as_of={as_of!r}: expected now or latest", parameter="as_of")
        summary = self._summary()
        if summary is None:
            return None
        return with_status(summary, self._now_ms() if as_of == "now" else None, self._stale_after_s)

    def _list_gpus(self, request: Request) -> Response:
        summary = self._with_status(request)
        gpus = [] if summary is None else render_gpus(summary)
        gpus.sort(key=lambda g: (g["hostname"] or "", _numeric(g["id"] or ""), g["uuid"]))
        return data_response(gpus, count=len(gpus))

    def _list_hosts(self, request: Request) -> Response:
        summary = self._with_status(request)
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

    def _gpu_telemetry(self, request: Request, gpu: str) -> Response:
        window = parse_window(request)
        limit = parse_count(request.args.get("limit"), "limit", default=None)
        hostname = request.args.get("hostname")
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

    def _telemetry(self, request: Request) -> Response:
        window = parse_window(request)
        limit = parse_count(request.args.get("limit"), "limit", default=DEFAULT_LIMIT)
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

    def _latest(self, _request: Request) -> Response:
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
