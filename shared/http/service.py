"""One function's HTTP side: from a request to an answer, whatever happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

from flask import Request, Response
from flask import request as current_request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from shared.api import health
from shared.api.endpoint import Endpoint, Parameters
from shared.config import Settings
from shared.errors import Corrupt, InvalidInput, MethodNotAllowed, NotFound, PipelineError
from shared.etcd import Etcd
from shared.http.access import Access
from shared.http.answers import error_response, json_response
from shared.http.body import drain
from shared.http.compress import compress
from shared.http.connection import limit_patience
from shared.http.cors import Cors
from shared.http.counts import Counts
from shared.http.exchange import Exchange
from shared.http.framework import take_over
from shared.http.headers import add_headers
from shared.http.route import Route, Routes, parse_parameters

log = logging.getLogger(__name__)

_INTERNAL = "an internal error: the log has it under this X-Request-Id"


class Service:
    """One function's HTTP side: what it is called and which routes it has. Call it with a request."""

    def __init__(
        self,
        name: str,
        routes: Sequence[Route],
        etcd: Callable[[], Etcd],
        config: Settings,
        counts: Counts,
        *,
        build_further: Callable[[], Sequence[Route]] = tuple,
    ) -> None:
        """Make it; what `build_further` builds is built when it is first asked for, see Routes."""
        self.name = name
        self._etcd = etcd
        self.started = time.monotonic()
        self._cors = Cors(config.origins())
        self.access = Access(config, self._cors)
        self._counts = counts
        own = [Route(health.HEALTH, self._health), Route(health.READY, self._ready)]
        self._routes = Routes(name, [*own, *routes], build_further)
        take_over(self._answer_for_framework)

    def __call__(self, request: Request) -> Response:
        """Answer a request; never raises."""
        return self._serve(request, self._answer)

    def upgrade(self, request: Request, endpoint: Endpoint, serve: Callable[[], Response]) -> Response:
        """Answer who wants a WebSocket, which the framework routes by itself.

        Args:
            request: The upgrade.
            endpoint: What is declared of it.
            serve: Called where it is allowed; serves it to its end.
        """

        def answer(request: Request, exchange: Exchange) -> Response:
            exchange.endpoint = endpoint
            exchange.caller = caller = self.access.identify(request, is_socket=True)
            self.access.limit(caller)
            self.access.authorize(request, caller, endpoint.role, is_socket=True)
            return serve()

        return self._serve(request, answer)

    def _serve(self, request: Request, answer: Callable[[Request, Exchange], Response]) -> Response:
        exchange = Exchange(request, self._counts)
        limit_patience(request)
        try:
            response = answer(request, exchange)
        except (PipelineError, HTTPException) as exc:
            response = _explain(request, exc)
        except Exception:
            log.exception("%s %s", request.method, request.path, extra={"action": "crash"})
            response = error_response(PipelineError(_INTERNAL))
        add_headers(response, exchange.id)
        self._cors.add_headers(request, response)
        compress(request, response)
        _drain(request, response)
        exchange.finish(response)
        return response

    def _answer(self, request: Request, exchange: Exchange) -> Response:
        """Answer in this order: who asks, for what, not too often, may he, with which parameters."""
        exchange.caller = caller = self.access.identify(request)
        try:
            route, in_path = self._routes.find(request)
        except (NotFound, MethodNotAllowed) as exc:
            self.access.limit(caller)
            if request.method == "OPTIONS" and isinstance(exc, MethodNotAllowed):
                return self._answer_options(request, exc.allowed)
            # Which paths there are is nothing for those who may not ask.
            self.access.authorize(request, caller, None)
            raise
        endpoint = exchange.endpoint = route.endpoint
        if endpoint.limited:
            self.access.limit(caller)
        self.access.authorize(request, caller, endpoint.role)
        return route.handler(request, parse_parameters(request, endpoint, in_path))

    def _answer_options(self, request: Request, allowed: Sequence[str]) -> Response:
        """Say what a path takes; a browser that asks before it sends has no token yet."""
        methods = [*allowed, *(["HEAD"] if "GET" in allowed else []), "OPTIONS"]
        response = Response(status=204, headers={"Allow": ", ".join(methods)})
        self._cors.add_preflight_headers(request, response, methods)
        return response

    def _answer_for_framework(self, failure: HTTPException) -> Response:
        """Answer what never came to a route of ours, or failed on its way out."""

        def answer(request: Request, exchange: Exchange) -> Response:
            exchange.caller = caller = self.access.identify(request)
            self.access.limit(caller)
            self.access.authorize(request, caller, None)
            raise failure

        # What the framework routes nowhere may be a path of ours, as with a line break in a name.
        is_path = failure.code == 404  # noqa: PLR2004
        return self._serve(_current_request(), self._answer if is_path else answer)

    @cached_property
    def _version(self) -> str:
        return version("gpu-telemetry")

    def about(self) -> dict[str, Any]:
        """Say who answers."""
        return {"service": self.name, "version": self._version}

    def _health(self, _request: Request, _parameters: Parameters) -> Response:
        return json_response({"status": "healthy", **self.about()})

    def _ready(self, _request: Request, _parameters: Parameters) -> Response:
        self._etcd().get("health")
        return json_response({"status": "ready", **self.about()})


def _current_request() -> Request:
    found: Request = current_request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def _explain(request: Request, exc: PipelineError | HTTPException) -> Response:
    """Answer with what went wrong; what a caller can do nothing about goes into the log only."""
    if isinstance(exc, PipelineError):
        response = error_response(exc)
        if response.status_code >= 500:  # noqa: PLR2004
            log.warning("%s %s: %s", request.method, request.path, exc, extra={"action": "error"})
        if response.status_code != 500:  # noqa: PLR2004
            return response
        # It may name keys, addresses and files of ours.
        return error_response(Corrupt(_INTERNAL) if isinstance(exc, Corrupt) else PipelineError(_INTERNAL))
    if isinstance(exc, ClientDisconnected):
        return error_response(InvalidInput("the connection broke before the body was complete"))
    if (exc.code or 500) < 500:  # noqa: PLR2004
        return error_response(InvalidInput(exc.description or "not a valid request"))
    log.error("%s %s", request.method, request.path, exc_info=exc, extra={"action": "crash"})
    return error_response(PipelineError(_INTERNAL))


def _drain(request: Request, response: Response) -> None:
    """Read what is left of the body, so that the client gets to read the answer."""
    if response.is_streamed or drain(request):
        return
    # functions-framework would read the rest into memory before a plain answer: stream this one.
    body = response.get_data()
    response.response = iter([body])
    response.headers["Content-Length"] = str(len(body))
    response.headers["Connection"] = "close"
