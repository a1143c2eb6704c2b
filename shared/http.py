"""The edge of a function: routing, envelopes, errors as statuses, health, start-up.

A functions-framework function receives every method and nearly every path, so routing is done here. Answers
are `{"success": true, "data": ...}` or `{"success": false, "error": {"code", "message", "details"}}`.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import orjson
from flask import Request, Response
from werkzeug.exceptions import ClientDisconnected, HTTPException

from shared.config import Settings, read_variable, settings
from shared.errors import (
    BadConfig,
    Conflict,
    InvalidInput,
    LimitExceeded,
    MethodNotAllowed,
    NoSpace,
    NotFound,
    NothingAccepted,
    PipelineError,
    Transient,
    UnsupportedMedia,
)
from shared.etcd import Etcd
from shared.logs import configure_logs

log = logging.getLogger(__name__)

#: A body that nobody wants is read to its end up to this size, so that the client gets to read the answer.
MAX_DRAINED_BYTES = 64 * 1024 * 1024

#: The most special class that an error is an instance of decides.
STATUSES: tuple[tuple[type[PipelineError], int], ...] = (
    (NothingAccepted, 422),
    (UnsupportedMedia, 415),
    (InvalidInput, 400),
    (NotFound, 404),
    (MethodNotAllowed, 405),
    (Conflict, 409),
    (LimitExceeded, 413),
    (Transient, 503),
    (NoSpace, 507),
    (PipelineError, 500),
)

Handler = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path such as /api/v1/gpus/{gpu}; the handler gets the request and what {gpu} stood for.

    `parameters` are the query parameters it knows: another one is refused, for a misspelt filter that is
    silently ignored answers a question that nobody asked.
    """

    method: str
    path: str
    handler: Handler
    parameters: tuple[str, ...] = ()

    def match(self, parts: Sequence[str]) -> dict[str, str] | None:
        """Match a path, split at its slashes; None where it is another."""
        own = self.path.strip("/").split("/")
        if len(own) != len(parts):
            return None
        found = {}
        for mine, theirs in zip(own, parts, strict=True):
            if mine.startswith("{"):
                if not theirs:
                    return None
                found[mine.strip("{}")] = theirs
            elif mine != theirs:
                return None
        return found


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a value as JSON."""
    data = orjson.dumps(body) + b"\n"
    return Response(data, status, headers, content_type="application/json")


def data_response(data: Any, **beside: Any) -> Response:
    """Answer with data in the envelope of success."""
    return json_response({"success": True, "data": data, **beside})


def error_response(exc: PipelineError) -> Response:
    """Answer with an error in its envelope, under the status of its class."""
    status = next(status for kind, status in STATUSES if isinstance(exc, kind))
    headers = {}
    if isinstance(exc, Transient):
        headers["Retry-After"] = str(exc.retry_after_s)
    if isinstance(exc, MethodNotAllowed):
        headers["Allow"] = ", ".join(exc.allowed)
    error = {"code": exc.code, "message": exc.message, "details": exc.details}
    return json_response({"success": False, "error": error}, status, headers)


def stream_response(parts: Iterable[bytes], content_type: str) -> Response:
    """Answer piece by piece; an error in the middle breaks the connection, it never ends as valid JSON."""
    return Response(parts, 200, content_type=content_type)


def read_body(request: Request, size: int) -> bytes:
    """Read up to `size` bytes of a body; empty at its end.

    Raises:
        ClientDisconnected: It breaks off, or its chunks are not chunks.
    """
    try:
        data: bytes = request.stream.read(size)
    except HTTPException:
        raise
    except Exception as exc:  # the server has errors of its own for a bad chunk
        raise ClientDisconnected from exc
    return data


def _drain(request: Request) -> bool:
    """Read what is left of the body, up to a bound; tells whether that was all."""
    if request.method in ("GET", "HEAD", "OPTIONS") and not request.content_length:
        return True
    left = MAX_DRAINED_BYTES
    try:
        while left > 0:
            piece = read_body(request, min(left, 1024 * 1024))
            if not piece:
                return True
            left -= len(piece)
    except HTTPException:
        return False
    return False


class Service:
    """One function's HTTP side: what it is called and which routes it has. Call it with a request."""

    def __init__(self, name: str, routes: Sequence[Route], etcd: Callable[[], Etcd]) -> None:
        self.name = name
        self._etcd = etcd
        self.started = time.monotonic()
        self._routes = [
            Route("GET", "/health", self._health),
            Route("GET", "/health/ready", self._ready),
            *routes,
        ]

    def __call__(self, request: Request) -> Response:
        """Answer a request; never raises."""
        try:
            response = self._route(request)
        except ClientDisconnected:
            response = error_response(InvalidInput("the connection broke before the body was complete"))
        except PipelineError as exc:
            response = error_response(exc)
            if response.status_code >= 500:  # noqa: PLR2004
                log.warning("%s %s: %s", request.method, request.path, exc, extra={"action": "error"})
        except HTTPException as exc:
            response = error_response(InvalidInput(exc.description or "not a valid request"))
        except Exception:
            log.exception("%s %s", request.method, request.path, extra={"action": "crash"})
            response = error_response(PipelineError("an internal error: it has been logged"))
        return self._finish(request, response)

    def _finish(self, request: Request, response: Response) -> Response:
        response.headers["Server"] = "gpu-telemetry"
        if request.method == "HEAD":
            return response
        if not response.is_streamed and not _drain(request):
            # functions-framework would read the rest into memory before a plain answer: stream this one.
            body = response.get_data()
            response.response = iter([body])
            response.headers["Content-Length"] = str(len(body))
            response.headers["Connection"] = "close"
        return response

    def _route(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        # A slash too many is forgiven where nothing is changed: `DELETE /things/` must not mean all things.
        path = request.path.strip("/") if method == "GET" else request.path.removeprefix("/")
        parts = path.split("/")
        allowed = []
        for route in self._routes:
            found = route.match(parts)
            if found is None:
                continue
            if route.method == method:
                _check_parameters(request, route)
                return route.handler(request, **found)
            allowed.append(route.method)
        if allowed:
            raise MethodNotAllowed(tuple(sorted(set(allowed))))
        paths = sorted({f"{r.method} {r.path}" for r in self._routes})
        raise NotFound(f"{self.name} has no {request.path}", paths=paths)

    def about(self) -> dict[str, Any]:
        """Say who answers."""
        return {"service": self.name, "version": version("gpu-telemetry")}

    def _health(self, _request: Request) -> Response:
        return json_response({"status": "healthy", **self.about()})

    def _ready(self, _request: Request) -> Response:
        self._etcd().get("health")
        return json_response({"status": "ready", **self.about()})


def _check_parameters(request: Request, route: Route) -> None:
    unknown = [name for name in request.args if name not in route.parameters]
    if unknown:
        takes = ", ".join(route.parameters) or "none"
        raise InvalidInput(f"unknown parameter {unknown[0]!r}: {route.path} takes {takes}")
    for name, values in request.args.lists():
        if len(values) > 1:
            raise InvalidInput(f"parameter {name!r} is given {len(values)} times: once is enough")


def parse_count(text: str | None, name: str, *, default: int | None) -> int | None:
    """Read a parameter that is a whole number of at least 1.

    Raises:
        InvalidInput: It is something else.
    """
    if text is None:
        return default
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit() and 0 < len(digits) <= 18):  # noqa: PLR2004
        raise InvalidInput(f"{name}={text!r}: expected a whole number of at least 1", parameter=name)
    return int(digits)


class EtcdHolder:
    """The etcd client of this process, made on first use: gunicorn forks after the import."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._etcd: Etcd | None = None

    def __call__(self) -> Etcd:
        """Return the client."""
        with self._lock:
            if self._etcd is None:
                self._etcd = Etcd(self._config.endpoints())
            return self._etcd


def start(service: str) -> Settings:
    """Read the settings and set up the logs of a function; a bad setting ends the process with one line."""
    try:
        config = settings()
    except BadConfig as exc:
        sys.exit(f"gpu-telemetry {service}: {exc.message}")
    configure_logs(service, config.log_level, revision=read_variable("K_REVISION"))
    return config
