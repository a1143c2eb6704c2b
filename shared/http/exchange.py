"""A request and its answer as they are logged and counted: at the end, also of an answer that is streamed."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, cast

from flask import Request, Response

from shared.api.endpoint import Endpoint
from shared.http.access import Caller
from shared.http.connection import break_off
from shared.http.counts import Counts
from shared.logs import request_id

log = logging.getLogger(__name__)

#: The route of whatever leads nowhere; a path as it was sent could be anything, and hold anything.
UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Statuses whose answers have no body, whatever they were given.
_EMPTY = (204, 304)
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Exchange:
    """One request, from its arrival to the end of its answer."""

    def __init__(self, request: Request, counts: Counts) -> None:
        """Begin: whatever this thread logs from now on carries the id of the request."""
        self._began_s = time.perf_counter()
        self._request = request
        self._counts = counts
        self._method = request.method if request.method in _METHODS else "other"
        self.endpoint: Endpoint | None = None
        self.caller: Caller | None = None
        given = request.headers.get("X-Request-Id", "")
        self.id = given if _GOOD_ID.fullmatch(given) else secrets.token_hex(8)
        request_id.set(self.id)

    def finish(self, response: Response) -> None:
        """Log and count the request with its answer; one that is streamed when it ends."""
        status = response.status_code
        if response.is_streamed:
            is_read = self._method != "HEAD" and status not in _EMPTY
            parts = cast("Iterable[bytes]", response.response)

            def end(size: int, problem: str, *, is_ours: bool) -> None:
                if is_ours:
                    break_off(self._request)
                self._end(status, size, problem, logging.WARNING if is_ours else logging.INFO)

            response.response = Measured(parts, end, is_read=is_read)
        else:
            self._end(status, response.content_length)

    def _end(self, status: int, size: int | None, problem: str = "", level: int = logging.INFO) -> None:
        seconds = time.perf_counter() - self._began_s
        route = self.endpoint.path if self.endpoint else UNMATCHED
        self._counts.add(route, self._method, status, seconds)
        if self.endpoint and not self.endpoint.limited and status < 400 and not problem:  # noqa: PLR2004
            # Probes, and events: what became of those is logged as such.
            level = logging.DEBUG
        if log.isEnabledFor(level):
            caller = self.caller
            extra = {
                "action": "access",
                "method": self._method,
                "route": route,
                "status": status,
                "duration_ms": round(seconds * 1000, 2),
                "bytes": size,
                "client": caller.address if caller else None,
                "token": caller.token.name if caller and caller.token else None,
            }
            log.log(level, "%s %s %d%s", self._method, route, status, problem, extra=extra)
        request_id.set("")


class _End(Protocol):
    def __call__(self, size: int, problem: str, *, is_ours: bool) -> None: ...


class Measured:
    """The parts of an answer as they are sent; tells at the end how many bytes went, and what broke it."""

    def __init__(self, parts: Iterable[bytes], end: _End, *, is_read: bool) -> None:
        self._parts = parts
        self._iterator: Iterator[bytes] = iter(parts)
        self._end = end
        self._is_read = is_read
        self._size = 0
        self._is_whole = False
        self._problem = ""
        self._is_ours = False
        self._is_closed = False

    def __iter__(self) -> Measured:
        return self

    def __next__(self) -> bytes:
        try:
            part = next(self._iterator)
        except StopIteration:
            self._is_whole = True
            raise
        except Exception as exc:
            self._problem, self._is_ours = f" broke off: {type(exc).__name__}: {exc}", True
            raise
        self._size += len(part)
        return part

    def close(self) -> None:
        """End, at the latest when the connection does."""
        if self._is_closed:
            return
        self._is_closed = True
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()
        if self._is_read and not self._is_whole and not self._problem:
            self._problem = " broke off: the client left"
        self._end(self._size, self._problem, is_ours=self._is_ours)
