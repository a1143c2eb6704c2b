"""A client's connection: aiohttp's, with what it has no words for."""

from __future__ import annotations

import logging
import re
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from local_runtime.activator.client import CLOSED
from local_runtime.activator.upstream import PARSING

log = logging.getLogger(__name__)

#: Seconds for which a connection may rest between two requests.
_KEEP_ALIVE_S = 75.0
#: Seconds for which what is left of a body is read after its answer, so that the client gets to read that.
_LINGER_S = 10.0

_START_LINE = re.compile(rb"(?:\r\n)*[A-Z]+ (\S+) HTTP/1\.[01]\r?\n")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n"
    b"Connection: close\r\n\r\n400 Bad Request\n"
)


class Connection(web.RequestHandler):
    """A client's connection."""

    __slots__ = ("_body", "_is_at_start", "_raw_target")

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        #: Of the request that was begun last.
        self._body: StreamReader = EMPTY_PAYLOAD
        self._is_at_start = True
        self._raw_target: bytes | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what came.

        Paths may hold bytes beyond ASCII: curl sends them as they are typed, gunicorn takes them, aiohttp
        refuses them.
        """
        if self._is_at_start:
            if not data.isascii():
                data = self._quote_target(data)
            self._is_at_start = False
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._break_body()

    def _break_body(self) -> None:
        """Tell whoever reads the body that is not one; aiohttp would have him wait."""
        body = self._messages[-2][1] if len(self._messages) > 1 else self._body
        if not body.is_eof():
            body.set_exception(web.RequestPayloadError("not a body"))

    def _quote_target(self, data: bytes) -> bytes:
        found = _START_LINE.match(data)
        if found is None or found[1].isascii():
            return data
        self._raw_target = found[1]
        quoted = _BEYOND_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), found[1])
        return data[: found.start(1)] + quoted + data[found.end(1) :]

    @property
    def is_resting(self) -> bool:
        """Whether nothing of a request has come that was not answered."""
        return self._is_at_start and not self._messages

    def begin(self, body: StreamReader) -> bytes | None:
        """Note that a request is worked on; give what it is for, where that had to be quoted."""
        self._body = body
        target, self._raw_target = self._raw_target, None
        return target

    def finish(self) -> None:
        """Note that a request was answered: what comes now is the next one, or of no interest."""
        self._is_at_start = True
        if self._body.exception() is not None and not self._body.is_eof():
            # There is nothing to wait for.
            self._body.feed_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request in a word."""
        if status != 400:  # noqa: PLR2004
            return super().handle_error(request, status, exc, message)
        log.debug("not a request: %s", exc, extra={"action": "bad-request"})
        if request.transport is not None:
            request.transport.write(_BAD_REQUEST)
        return CLOSED


class Connections(web.Server):
    """All connections of clients."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new one."""
        return Connection(
            self,
            loop=self._loop,
            logger=log,
            access_log=cast("logging.Logger", None),
            keepalive_timeout=_KEEP_ALIVE_S,
            lingering_time=_LINGER_S,
            **PARSING,
        )
