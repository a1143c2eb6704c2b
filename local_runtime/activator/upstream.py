"""One connection to an instance."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from aiohttp.client_exceptions import ClientError, ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter
from aiohttp.streams import StreamReader

from local_runtime.activator.headers import frame

#: Bytes that are read of a body before the sender is held, twice over.
READ_BYTES = 128 * 1024
#: Bytes of one header, and of the first line: whoever has a smaller limit says so himself.
_LONGEST_LINE_BYTES = 128 * 1024
_MOST_HEADERS = 1000
#: How aiohttp is to parse on either side: bodies as they come, limits that others have set long before.
PARSING: dict[str, Any] = {
    "auto_decompress": False,
    "read_bufsize": READ_BYTES,
    "max_line_size": _LONGEST_LINE_BYTES,
    "max_field_size": _LONGEST_LINE_BYTES,
    "max_headers": _MOST_HEADERS,
}

#: What a broken connection, or an answer that is none, shows as.
BROKEN = (OSError, ClientError, HttpProcessingError)


class Upstream(ResponseHandler):
    """The connection, as asyncio calls it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        #: Only waits for us.
        self._writer = StreamWriter(self, loop)
        self._is_chunked = False
        #: Whether it carried a request before this one.
        self.is_used = False
        #: Whether a byte came back.
        self.is_heard = False
        #: Whether a request was sent whose answer has not begun: its answer must never be another one's.
        self._is_owed = False

    @property
    def is_usable(self) -> bool:
        """Whether another request may go over it."""
        return self.is_connected() and not self._is_owed and not self.should_close

    @property
    def is_stale(self) -> bool:
        """Whether it may have been closed before the request was sent."""
        return self.is_used and not self.is_heard

    def use_again(self) -> None:
        """Note that another request goes over it."""
        self.is_used = True
        self.is_heard = False

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self.is_heard = True
        super().data_received(data)

    def send(self, head: bytes, body: bytes, *, is_chunked: bool, is_whole: bool, is_head: bool) -> None:
        """Send the head of the request, with what there is of its body already.

        Args:
            head: All of it, to the empty line.
            body: Its beginning.
            is_chunked: Whether it goes in chunks.
            is_whole: Whether that is all of it.
            is_head: Whether the answer has a head only.

        Raises:
            OSError: The connection is broken.
        """
        self.set_response_params(skip_payload=is_head, read_until_eof=True, **PARSING)
        self._is_chunked = is_chunked
        self._is_owed = True
        self._write(head + frame(body, is_chunked=is_chunked, is_last=is_whole))

    async def send_body(self, data: bytes, *, is_last: bool) -> None:
        """Send more of the body, as fast as it is taken.

        Raises:
            OSError: The connection is broken.
        """
        self._write(frame(data, is_chunked=self._is_chunked, is_last=is_last))
        await self._writer.drain()

    async def read_head(self) -> tuple[RawResponseMessage, StreamReader]:
        """Read the head of the answer; interim ones (100, 103) are passed over.

        Raises:
            Any of BROKEN.
        """
        while True:
            message, payload = await self.read()
            if message.code >= 200 or message.code == 101:  # noqa: PLR2004  (statuses)
                self._is_owed = False
                return message, payload

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take what came before the connection broke, and take what did not come whole for that.

        Who answers early and closes, with a body still coming, breaks it: asyncio, failing to write, would
        not read the answer that is already here.
        """
        if exc is not None and self.transport is not None:
            rest = _read_rest(self.transport)
            if rest:
                self.data_received(rest)
            if self._payload is not None and not self._payload.is_eof():
                # aiohttp would take a reset for the end, where nothing else tells it.
                self._payload.set_exception(ClientPayloadError(f"broken off: {exc}"))
        super().connection_lost(exc)

    def _write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the instance closed the connection")
        self.transport.write(data)


def _read_rest(transport: asyncio.Transport) -> bytes:
    sock = transport.get_extra_info("socket")
    parts = []
    with contextlib.suppress(OSError):
        while part := os.read(sock.fileno(), READ_BYTES):
            parts.append(part)
    return b"".join(parts)
