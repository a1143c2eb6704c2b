"""The activator of one service: listens, and hands each request on."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from local_runtime.activator.client import CLOSED, Client, Request, Sent
from local_runtime.activator.deadline import Timeouts
from local_runtime.activator.proxy import Exchange
from local_runtime.activator.throttle import Throttle
from local_runtime.activator.upstream import LONGEST_LINE_BYTES, MOST_HEADERS, READ_BYTES

log = logging.getLogger(__name__)

#: Seconds for which a connection may rest between two requests.
_KEEP_ALIVE_S = 75.0
#: Seconds for which what is left of a body is read after its answer, so that the client gets to read that.
_LINGER_S = 10.0
_BACKLOG = 1024
#: Seconds for what was cut to end.
_CUT_S = 1.0
#: Seconds that requests under way have, where nothing else is said.
GRACE_S = 5.0

_START_LINE = re.compile(rb"(?:\r\n)*[A-Z]+ (\S+) HTTP/1\.[01]\r?\n")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n"
    b"Connection: close\r\n\r\n400 Bad Request\n"
)


class _Connection(web.RequestHandler):
    """A client's connection."""

    __slots__ = ("_is_at_start", "_raw_target")

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._is_at_start = True
        self._raw_target: bytes | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what came.

        Paths may hold bytes beyond ASCII, which curl sends as they are typed, gunicorn takes, aiohttp refuses.
        """
        if self._is_at_start:
            if not data.isascii():
                data = self._quote_target(data)
            self._is_at_start = False
        super().data_received(data)

    def _quote_target(self, data: bytes) -> bytes:
        found = _START_LINE.match(data)
        if found is None or found[1].isascii():
            return data
        self._raw_target = found[1]
        quoted = _BEYOND_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), found[1])
        return data[: found.start(1)] + quoted + data[found.end(1) :]

    def take_raw_target(self) -> bytes | None:
        """Give what the first request that was parsed is for, where it had to be quoted."""
        target, self._raw_target = self._raw_target, None
        return target

    def finish(self) -> None:
        """Note that a request was answered: what comes now is the next one, or of no interest."""
        self._is_at_start = True

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


class _Connections(web.Server):
    """All connections of clients."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new one."""
        return _Connection(
            self,
            loop=self._loop,
            logger=log,
            access_log=cast("logging.Logger", None),
            auto_decompress=False,
            keepalive_timeout=_KEEP_ALIVE_S,
            lingering_time=_LINGER_S,
            max_line_size=LONGEST_LINE_BYTES,
            max_field_size=LONGEST_LINE_BYTES,
            max_headers=MOST_HEADERS,
            read_bufsize=READ_BYTES,
        )


class Activator:
    """Takes the requests for one service and hands them to its instances."""

    def __init__(self, service: str, throttle: Throttle, timeouts: Timeouts) -> None:
        self.service = service
        #: May be replaced: requests that arrive afterwards go through the new one.
        self.throttle = throttle
        self.timeouts = timeouts
        self._connections: _Connections | None = None
        self._server: asyncio.Server | None = None
        self._under_way: set[Client] = set()
        self._is_closing = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("it does not listen")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def listen(self, host: str, port: int) -> None:
        """Take connections from now on.

        Raises:
            OSError: It cannot listen there.
        """
        loop = asyncio.get_running_loop()
        connections = _Connections(
            self._handle, request_factory=self._make_request, handler_cancellation=True, loop=loop
        )
        self._server = await loop.create_server(connections, host, port, backlog=_BACKLOG)
        self._connections = connections

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Take no more connections, let requests under way end for so many seconds, and cut the others."""
        if self._server is None or self._connections is None:
            return
        self._is_closing = True
        self._server.close()
        busy = {client.request.protocol for client in self._under_way}
        for connection in self._connections.connections:
            if connection not in busy:
                connection.close()
        for client in self._under_way:
            client.keep_open(is_open=False)
        try:
            async with asyncio.timeout(grace_s):
                await self._is_idle.wait()
        except TimeoutError:
            log.warning(
                "%s: %d requests did not end in time",
                self.service,
                len(self._under_way),
                extra={"action": "cut"},
            )
        for client in self._under_way:
            client.cut()
        self._connections.pre_shutdown()
        await self._connections.shutdown(_CUT_S)
        self._server = self._connections = None

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> Request:
        request = Request(message, payload, protocol, writer, task, asyncio.get_running_loop())
        request.raw_target = cast("_Connection", protocol).take_raw_target()
        return request

    async def _handle(self, request: web.BaseRequest) -> Sent:
        client = Client(cast("Request", request))
        client.keep_open(is_open=not self._is_closing)
        self._under_way.add(client)
        self._is_idle.clear()
        try:
            await Exchange(client, self.throttle, self.timeouts).run()
        except Exception:
            log.exception("%s: the activator has a defect", self.service, extra={"action": "crash"})
            await client.give_up()
        finally:
            cast("_Connection", request.protocol).finish()
            self._under_way.discard(client)
            if not self._under_way:
                self._is_idle.set()
        return client.response
