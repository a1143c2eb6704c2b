"""One request: from its client to an instance, and the answer back."""

from __future__ import annotations

import asyncio
import logging

from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.web import RequestPayloadError

from local_runtime.activator.client import Client
from local_runtime.activator.deadline import Deadline, Timeouts
from local_runtime.activator.headers import Header, build_request_head, find_header, list_passing
from local_runtime.activator.pool import Pool
from local_runtime.activator.throttle import Lease, QueueFull, Throttle
from local_runtime.activator.upgrade import join
from local_runtime.activator.upstream import BROKEN, Upstream

log = logging.getLogger(__name__)

#: Knative's words.
QUEUE_FULL = "pending request queue full"
NEVER_BEGUN = "activator request timeout"
TOO_SLOW = "request timeout"

#: What a body that does not come whole, or is none, shows as.
_BODY_BROKEN = (RequestPayloadError, OSError, RuntimeError)
#: What may be sent twice, and changes nothing (RFC 9110, 9.2.1).
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_BODY = frozenset({204, 304})
#: More digits than any number of rows has.
_LONGEST_COUNT = 15


class _Unanswered(Exception):
    """There is no answer of a function: a status and a sentence instead."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Exchange:
    """One request and its answer."""

    def __init__(self, client: Client, throttle: Throttle, pool: Pool, timeouts: Timeouts) -> None:
        message = client.message
        self._client = client
        self._throttle = throttle
        self._pool = pool
        self._deadline = Deadline(timeouts)
        self._is_waiting = True
        self._is_body_broken = False
        #: Whether the answer was read to its end: what comes afterwards on the connection is another one's.
        self._is_over = False
        self._sending: asyncio.Task[None] | None = None
        # Without a body, and as good sent twice as once.
        self._is_safe = message.method in _SAFE and client.body.at_eof() and not client.is_upgrade

    async def run(self) -> None:
        """Have the request answered, by a function or by a sentence of our own.

        Cancelled, because its client left, it gives back what it holds.

        Raises:
            ClientLeft: Nobody is there to be answered.
        """
        try:
            async with self._deadline:
                await self._forward()
        except TimeoutError:
            await self._refuse(504, NEVER_BEGUN if self._is_waiting else TOO_SLOW)
        except QueueFull:
            await self._refuse(503, QUEUE_FULL)
        except _Unanswered as exc:
            await self._refuse(exc.status, exc.text)

    async def _refuse(self, status: int, text: str) -> None:
        if self._client.is_answered:
            self._client.cut()
        else:
            await self._client.explain(status, text)

    async def _forward(self) -> None:
        lease, upstream = await self._reach()
        try:
            try:
                message, payload = await self._ask(upstream)
            except BROKEN:
                if not (upstream.is_stale and self._is_safe):
                    raise
                upstream = await self._pool.connect(lease.address)
                message, payload = await self._ask(upstream)
            self._deadline.answered()
            if message.code == 101:  # noqa: PLR2004  (Switching Protocols)
                await join(self._client, upstream, message, lease, self._deadline)
            else:
                await self._answer(lease, message, payload)
        except BROKEN as exc:
            if self._is_body_broken:
                raise _Unanswered(400, "the body of the request is not a valid one") from exc
            why = " ".join(str(exc).split())
            log.warning("%s broke off: %s", lease.name, why, extra={"action": "broke-off"})
            if isinstance(exc, HttpProcessingError):
                raise _Unanswered(502, f"{lease.name} gave an answer that is not valid HTTP") from exc
            raise _Unanswered(502, f"{lease.name} broke the connection off before it answered") from exc
        finally:
            lease.release()
            may_rest = self._is_safe and self._is_over and lease.is_open
            self._pool.give_back(lease.address, upstream, may_rest=may_rest)
            if self._sending is not None:
                self._sending.cancel()
                # Afterwards the rest of the body is aiohttp's to read.
                await asyncio.wait([self._sending])

    async def _reach(self) -> tuple[Lease, Upstream]:
        """Get a place at an instance, and a connection to it."""
        lease = await self._throttle.acquire()
        self._deadline.dispatched()
        while True:
            self._is_waiting = False
            try:
                return lease, await self._pool.take(lease.address, may_be_used=self._is_safe)
            except OSError as exc:
                # Nothing was sent, so that another one may have it.
                log.warning("cannot connect to %s: %s", lease.name, exc, extra={"action": "unreachable"})
                if not lease.fail():
                    raise _Unanswered(502, f"{lease.name} cannot be connected to") from exc
            except BaseException:
                lease.release()
                raise
            self._is_waiting = True
            lease = await self._throttle.acquire_again()

    async def _ask(self, upstream: Upstream) -> tuple[RawResponseMessage, StreamReader]:
        """Send the request and read the head of its answer."""
        if not self._send(upstream):
            self._client.invite()
            self._sending = asyncio.create_task(self._send_body(upstream))
        return await upstream.read_head()

    def _send(self, upstream: Upstream) -> bool:
        """Send the request; tell whether that was all of it."""
        body = self._client.body
        message = self._client.message
        is_whole = body.is_eof()
        upstream.send(
            self._build_head(),
            body.read_nowait() if is_whole else b"",
            is_chunked=message.chunked,
            is_whole=is_whole,
            is_head=message.method == "HEAD",
        )
        return is_whole

    async def _send_body(self, upstream: Upstream) -> None:
        body = self._client.body
        while not body.at_eof():
            try:
                data = await body.readany()
            except _BODY_BROKEN:
                self._is_body_broken = True
                upstream.abort()
                return
            self._deadline.moved()
            try:
                await upstream.send_body(data, is_last=body.at_eof())
            except OSError:
                return  # an answer may be here all the same

    async def _answer(self, lease: Lease, message: RawResponseMessage, payload: StreamReader) -> None:
        client = self._client
        headers = list_passing(message.raw_headers)
        self._count_rows(headers)
        has_body = client.message.method != "HEAD" and message.code not in _NO_BODY
        data = payload.read_nowait()
        self._is_over = is_whole = payload.is_eof()
        if is_whole:
            lease.release()
        reason = message.reason.encode(errors="surrogateescape")
        await client.begin(message.code, reason, headers, data, has_body=has_body, is_whole=is_whole)
        while not is_whole:
            data = await payload.readany()
            self._is_over = is_whole = payload.at_eof()
            if is_whole:
                lease.release()
            self._deadline.moved()
            await client.send(data, is_last=is_whole)

    def _count_rows(self, headers: list[Header]) -> None:
        rows = find_header(headers, b"x-rows")
        if rows is not None and rows.isdigit() and len(rows) <= _LONGEST_COUNT:
            self._throttle.add_rows(int(rows))

    def _build_head(self) -> bytes:
        message = self._client.message
        start = b"%b %b HTTP/1.1" % (message.method.encode(), self._client.target)
        own: list[Header] = [(b"Transfer-Encoding", b"chunked")] if message.chunked else []
        if self._client.is_upgrade:
            own += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        elif not self._is_safe:
            own.append((b"Connection", b"close"))
        return build_request_head(start, message.raw_headers, self._client.peer, own)
