"""The activator of one service: listens, and hands each request on."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from local_runtime.activator.client import Client, Request, Sent
from local_runtime.activator.connection import Connection, Connections
from local_runtime.activator.deadline import Timeouts
from local_runtime.activator.proxy import Exchange
from local_runtime.activator.throttle import Throttle

log = logging.getLogger(__name__)

_BACKLOG = 1024
#: Seconds for what was cut to end.
_CUT_S = 1.0
#: Seconds that requests under way have, where nothing else is said.
GRACE_S = 5.0


class Activator:
    """Takes the requests for one service and hands them to its instances."""

    def __init__(self, service: str, throttle: Throttle, timeouts: Timeouts) -> None:
        self.service = service
        #: May be replaced: requests that arrive afterwards go through the new one.
        self.throttle = throttle
        self.timeouts = timeouts
        self._connections: Connections | None = None
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
        connections = Connections(
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
        request.raw_target = cast("Connection", protocol).begin(payload)
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
            cast("Connection", request.protocol).finish()
            self._under_way.discard(client)
            if not self._under_way:
                self._is_idle.set()
        return client.response
