"""One function's HTTP side: from a request to an answer, whatever happens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import flask
from flask import Request, Response
from werkzeug.exceptions import ClientDisconnected, HTTPException

from shared.api import health
from shared.api.endpoint import Parameters
from shared.errors import InvalidInput, PipelineError
from shared.etcd import Etcd
from shared.http.answers import error_response, json_response
from shared.http.body import drain
from shared.http.route import Route, Routes, parse_parameters

log = logging.getLogger(__name__)


class Service:
    """One function's HTTP side: what it is called and which routes it has. Call it with a request."""

    def __init__(self, name: str, routes: Sequence[Route], etcd: Callable[[], Etcd]) -> None:
        self.name = name
        self._etcd = etcd
        self.started = time.monotonic()
        own = [Route(health.HEALTH, self._health), Route(health.READY, self._ready)]
        self._routes = Routes(name, [*own, *routes])
        if flask.has_app_context():
            # What the framework itself routes nowhere (a line break in a path, /robots.txt) is answered here.
            flask.current_app.register_error_handler(404, lambda _error: self(flask.request))

    def __call__(self, request: Request) -> Response:
        """Answer a request; never raises."""
        try:
            route, in_path = self._routes.find(request)
            parameters = parse_parameters(request, route.endpoint, in_path)
            response = route.handler(request, parameters)
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
        if not response.is_streamed and not drain(request):
            # functions-framework would read the rest into memory before a plain answer: stream this one.
            body = response.get_data()
            response.response = iter([body])
            response.headers["Content-Length"] = str(len(body))
            response.headers["Connection"] = "close"
        return response

    def about(self) -> dict[str, Any]:
        """Say who answers."""
        return {"service": self.name, "version": version("gpu-telemetry")}

    def _health(self, _request: Request, _parameters: Parameters) -> Response:
        return json_response({"status": "healthy", **self.about()})

    def _ready(self, _request: Request, _parameters: Parameters) -> Response:
        self._etcd().get("health")
        return json_response({"status": "ready", **self.about()})
