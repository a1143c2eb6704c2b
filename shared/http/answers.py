"""Envelopes, and errors as statuses.

Answers are `{"success": true, "data": ...}` or `{"success": false, "error": {"code", "message", "details"}}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from flask import Response

from shared.api.endpoint import ROWS
from shared.api.errors import status_of
from shared.errors import MethodNotAllowed, PipelineError, Transient, Unauthorized


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a value as JSON."""
    data = orjson.dumps(body) + b"\n"
    return Response(data, status, headers, content_type="application/json")


def data_response(data: Any, **beside: Any) -> Response:
    """Answer with data in the envelope of success."""
    return json_response({"success": True, "data": data, **beside})


def report_response(report: Mapping[str, Any], rows: int) -> Response:
    """Answer with a report in the envelope of success, and say in X-Rows about how many records it is."""
    return json_response({"success": True, "data": report}, headers={ROWS: str(rows)})


def error_response(exc: PipelineError) -> Response:
    """Answer with an error in its envelope, under the status of its class."""
    headers = {}
    if isinstance(exc, Transient):
        headers["Retry-After"] = str(exc.retry_after_s)
    if isinstance(exc, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(exc, MethodNotAllowed):
        headers["Allow"] = ", ".join(exc.allowed)
    error = {"code": exc.code, "message": exc.message, "details": exc.details}
    return json_response({"success": False, "error": error}, status_of(type(exc)), headers)


def stream_response(parts: Iterable[bytes], content_type: str) -> Response:
    """Answer piece by piece; an error in the middle breaks the connection, it never ends as valid JSON."""
    return Response(parts, 200, content_type=content_type)
