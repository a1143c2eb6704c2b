"""The client's side of a request: what it asked, and how it is answered."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from email.utils import formatdate

from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web import BaseRequest, StreamResponse

from local_runtime.activator.headers import Header, build_answer_head, find_header, frame, parse_peer

_PLAIN = (b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Request(BaseRequest):
    """A request as it was parsed."""

    #: What it is for, where the parser was given something else.
    raw_target: bytes | None = None

    @property
    def message(self) -> RawRequestMessage:
        """Its head."""
        return self._message


class Sent(StreamResponse):
    """An answer that went out already, as far as it went."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open for another request."""
        return self._keep

    async def prepare(self, _request: BaseRequest) -> AbstractStreamWriter | None:
        """Send nothing."""

    async def write_eof(self, _data: bytes = b"") -> None:
        """Send nothing."""


#: They have no state of their own.
KEPT, CLOSED = Sent(keep_alive=True), Sent(keep_alive=False)


class Client:
    """One request's client: reads its body, writes its answer."""

    def __init__(self, request: Request) -> None:
        message = request.message
        self.request = request
        #: What is asked for, byte for byte.
        self.target = request.raw_target or message.path.encode(errors="surrogateescape")
        self.message = message
        self.body: StreamReader = request.content
        #: Whether a byte of an answer went out.
        self.is_answered = False
        self._is_chunked = False
        self._keep_alive = not message.should_close
        self._is_framed = True

    @property
    def peer(self) -> bytes:
        """Its address."""
        return parse_peer(self.request.remote or "")

    @property
    def is_upgrade(self) -> bool:
        """Whether it wants a WebSocket."""
        return self.message.upgrade and self.message.headers.get("Upgrade", "").lower() == "websocket"

    @property
    def response(self) -> Sent:
        """What aiohttp is told of the answer."""
        return KEPT if self._keep_alive else CLOSED

    def invite(self) -> None:
        """Have it send the body that it holds back (`Expect: 100-continue`)."""
        expected = self.message.headers.get("Expect", "").lower() == "100-continue"
        if expected and self.message.version >= HttpVersion11 and not self.body.total_bytes:
            self._write(_CONTINUE)

    async def begin(
        self,
        status: int,
        reason: bytes,
        headers: Sequence[Header],
        data: bytes,
        *,
        has_body: bool,
        is_whole: bool,
    ) -> None:
        """Answer: the head, and what is there of the body already."""
        is_new = self.message.version >= HttpVersion11
        own: list[Header] = []
        if has_body and find_header(headers, b"content-length") is None:
            self._is_chunked = is_new
            self._is_framed = is_new
            self._keep_alive &= is_new
            own += [(b"Transfer-Encoding", b"chunked")] if is_new else []
        # What it is still sending may be more than anybody reads.
        self._keep_alive &= self.body.is_eof()
        if self._keep_alive != is_new:
            own.append((b"Connection", b"keep-alive" if self._keep_alive else b"close"))
        self.is_answered = True
        await self.send(data, is_last=is_whole, head=build_answer_head(status, reason, headers, own))

    async def upgrade(self, reason: bytes, headers: Sequence[Header]) -> None:
        """Answer that it has its WebSocket."""
        self.is_answered = True
        self._keep_alive = False
        own = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
        await self._drain(build_answer_head(101, reason, headers, own))

    async def send(self, data: bytes, *, is_last: bool, head: bytes = b"") -> None:
        """Send more of the body, as fast as it is taken."""
        await self._drain(head + frame(data, is_chunked=self._is_chunked, is_last=is_last))

    async def explain(self, status: int, text: str) -> None:
        """Answer with a sentence of our own."""
        data = text.encode() + b"\n"
        headers = (
            *_PLAIN,
            (b"Date", formatdate(usegmt=True).encode()),
            (b"Content-Length", b"%d" % len(data)),
        )
        is_head = self.message.method == "HEAD"
        data = b"" if is_head else data
        await self.begin(status, b"", headers, data, has_body=not is_head, is_whole=True)

    def keep_open(self, *, is_open: bool) -> None:
        """Say whether the connection may be used for another request."""
        self._keep_alive &= is_open

    def cut(self) -> None:
        """Break the connection, so that what was sent cannot be taken for the whole."""
        self._keep_alive = False
        transport = self.request.transport
        if transport is None:
            return
        if not self._is_framed:
            # There a close means that the answer is whole.
            with contextlib.suppress(OSError):
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    async def give_up(self) -> None:
        """Answer 500, or break off what has begun."""
        if self.is_answered:
            self.cut()
        else:
            await self.explain(500, "internal error")

    async def _drain(self, data: bytes) -> None:
        self._write(data)
        await self.request.writer.drain()

    def _write(self, data: bytes) -> None:
        transport = self.request.transport
        if transport is None or transport.is_closing():
            raise ClientLeft
        transport.write(data)


class ClientLeft(Exception):
    """Nobody is there to read the answer."""
