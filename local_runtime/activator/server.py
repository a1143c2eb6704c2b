"""The activator of one service: listens, and hands each request on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from local_runtime.activator.client import Client, ClientLeft, Request, Sent
from local_runtime.activator.connection import Connection, Connections
from local_runtime.activator.deadline import Timeouts
from local_runtime.activator.pool import Pool
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
        self._listening: _Listening | None = None
        self._under_way: set[Client] = set()
        self._is_closing = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._listening is None:
            raise RuntimeError("it does not listen")
        port: int = self._listening.server.sockets[0].getsockname()[1]
        return port

    async def listen(self, host: str, port: int) -> None:
        """Take connections from now on.

        Raises:
            OSError: It cannot listen there.
        """
        loop = asyncio.get_running_loop()
        connections = Connections(
            self._handle, request_factory=_make_request, handler_cancellation=True, loop=loop
        )
        server = await loop.create_server(connections, host, port, backlog=_BACKLOG)
        self._listening = _Listening(server, connections, Pool())

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Take no more connections, let requests under way end for so many seconds, and cut the others."""
        if self._listening is None or self._is_closing:
            return
        self._is_closing = True
        self._listening.server.close()
        self._close_resting()
        try:
            async with asyncio.timeout(grace_s):
                await self._is_idle.wait()
        except TimeoutError:
            text, count = "%s: %d requests did not end in time", len(self._under_way)
            log.warning(text, self.service, count, extra={"action": "cut"})
        for client in self._under_way:
            client.cut()
        self._listening.connections.pre_shutdown()
        await self._listening.connections.shutdown(_CUT_S)
        self._listening.pool.close()
        self._listening = None

    def _close_resting(self) -> None:
        """Close connections that no request is under way on, and have the others close after theirs."""
        for connection in self._listening.connections.connections if self._listening else ():
            if cast("Connection", connection).is_resting:
                connection.force_close()
        for client in self._under_way:
            client.keep_open(is_open=False)

    async def _handle(self, request: web.BaseRequest) -> Sent:
        client = Client(cast("Request", request))
        client.keep_open(is_open=not self._is_closing)
        self._under_way.add(client)
        self._is_idle.clear()
        try:
            await self._serve(client)
        except ClientLeft:
            client.keep_open(is_open=False)
        except Exception:
            log.exception("%s: the activator has a defect", self.service, extra={"action": "crash"})
            with contextlib.suppress(ClientLeft):
                await client.give_up()
        finally:
            cast("Connection", request.protocol).finish()
            self._under_way.discard(client)
            if not self._under_way:
                self._is_idle.set()
        return client.response

    async def _serve(self, client: Client) -> None:
        if self._listening is None:
            raise ClientLeft
        await Exchange(client, self.throttle, self._listening.pool, self.timeouts).run()


@dataclass(frozen=True)
class _Listening:
    server: asyncio.Server
    connections: Connections
    pool: Pool


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> Request:
    request = Request(message, payload, protocol, writer, task, asyncio.get_running_loop())
    request.raw_target = cast("Connection", protocol).begin(payload)
    return request
