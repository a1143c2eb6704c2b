"""Which pages of the web may ask from a browser (ENABLE_CORS, CORS_ORIGINS).

No answer ever allows credentials: who asks is known by a token in a header, never by a cookie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flask import Request, Response

#: Request headers that mean something here.
ALLOWED_HEADERS = "Authorization, Content-Type, If-None-Match, Idempotency-Key, traceparent, X-Request-Id"
#: Headers of an answer that a page may read.
EXPOSED_HEADERS = "ETag, Link, Retry-After, X-Request-Id, X-Rows"
#: Seconds for which a browser remembers what it was told.
MAX_AGE_S = 600


class Cors:
    """The origins that are allowed; none where CORS is not enabled."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)
        self.enabled = bool(self._origins)

    def decide(self, origin: str) -> str:
        """Decide what Access-Control-Allow-Origin says to an origin; empty where it is not allowed."""
        if "*" in self._origins:
            return "*"
        return origin if origin in self._origins else ""

    def allows(self, origin: str) -> bool:
        """Tell whether the pages of an origin may ask."""
        return bool(self.decide(origin))

    def add_headers(self, request: Request, response: Response) -> None:
        """Say in an answer who may read it."""
        if not self.enabled:
            return
        allowed = self.decide(request.headers.get("Origin", ""))
        if allowed != "*":
            # Also where it is not allowed: the answer to another origin is another one.
            response.vary.add("Origin")
        if allowed:
            response.headers["Access-Control-Allow-Origin"] = allowed
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    def add_preflight_headers(self, request: Request, response: Response, methods: Sequence[str]) -> None:
        """Say to a browser that asks before it sends, what it may send."""
        if not is_preflight(request) or not self.allows(request.headers["Origin"]):
            return
        response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)


def is_preflight(request: Request) -> bool:
    """Tell whether a browser asks whether it may ask."""
    return (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )
