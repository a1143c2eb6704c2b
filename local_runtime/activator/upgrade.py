"""A connection that is a WebSocket's from now on: bytes both ways, whatever they mean."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp.http import RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD

from local_runtime.activator.client import Client, ClientLeft
from local_runtime.activator.deadline import Deadline
from local_runtime.activator.headers import list_passing
from local_runtime.activator.throttle import Lease
from local_runtime.activator.upstream import Upstream


class _Early:
    """Takes what came before the ends were joined, from aiohttp, which keeps it for a parser."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing more comes."""


class _End(asyncio.Protocol):
    """One end: hands on what it gets, as fast as the other one takes it."""

    def __init__(self, transport: asyncio.Transport, deadline: Deadline, ended: asyncio.Future[None]) -> None:
        self.transport = transport
        self.other = self
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = ended
        self._deadline = deadline

    def data_received(self, data: bytes) -> None:
        self._deadline.moved()
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def eof_received(self) -> None:
        """Let the other end have what is on its way; this one closes by itself."""
        self._end()

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._end()
        if not self.lost.done():
            self.lost.set_result(None)

    def _end(self) -> None:
        self.other.transport.close()
        if not self._ended.done():
            self._ended.set_result(None)


async def join(
    client: Client, upstream: Upstream, message: RawResponseMessage, lease: Lease, deadline: Deadline
) -> None:
    """Join a client with a function that switched protocols, until one of them ends it.

    Args:
        client: Who asked for it.
        upstream: The function's connection.
        message: The function's answer, a 101.
        lease: Released when one of them has gone, whatever the other still has to read.
        deadline: The request's.
    """
    await client.upgrade(message.reason.encode(), list_passing(message.raw_headers))
    near_before, far_before = client.request.protocol, upstream
    if near_before.transport is None:
        raise ClientLeft
    if far_before.transport is None:
        raise ConnectionResetError("the instance closed the connection")
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    near = _End(near_before.transport, deadline, ended)
    far = _End(far_before.transport, deadline, ended)
    near.other, far.other = far, near
    said, answered = _Early(), _Early()
    near_before.set_parser(cast("Any", said))
    far_before.set_parser(answered, EMPTY_PAYLOAD)
    near.transport.set_protocol(near)
    far.transport.set_protocol(far)
    far.transport.write(said.data)
    near.transport.write(answered.data)
    try:
        await ended
        lease.release()
        await asyncio.wait([near.lost, far.lost])
    finally:
        near.transport.abort()
        far.transport.abort()
        # They wait for it, and would not hear of it any more.
        near_before.connection_lost(None)
        far_before.connection_lost(None)
