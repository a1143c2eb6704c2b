"""A cheap HTTP client for open-loop load: asyncio, keep-alive, requests built beforehand.

Open loop: a request is sent when it is due, whether or not the ones before it have been answered, on a
connection that is idle or else on a new one. So a slow server meets the load it would meet from many
hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    body: bytes


def build_head(method: str, path: str, length: int = 0, content_type: str = "text/csv") -> bytes:
    """Build a request up to its body."""
    about = f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n" if method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{about}\r\n".encode()


class Pool:
    """Connections to one server, the one used last taken first; for one event loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        #: How many connections were opened.
        self.opened = 0

    async def exchange(self, head: bytes, body: bytes = b"") -> Answer:
        """Send a request and read its answer.

        Raises:
            OSError: It was not answered, or not in time.
        """
        while True:
            fresh = not self._idle
            reader, writer = await self._open() if fresh else self._idle.pop()
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    writer.write(head + body if len(body) < 65536 else head)
                    if len(body) >= 65536:
                        writer.write(body)
                    answer, keep = await _read_answer(reader)
            except (asyncio.IncompleteReadError, ConnectionError) as exc:
                writer.close()
                if fresh:
                    raise ConnectionResetError("the connection broke before the answer") from exc
                # The server has closed it while it was idle.
                continue
            except BaseException:
                writer.close()
                raise
            if keep:
                self._idle.append((reader, writer))
            else:
                writer.close()
            return answer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.opened += 1
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def close(self) -> None:
        """Close every idle connection."""
        for _, writer in self._idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """Read one answer; tells whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head[9:12])
    keep = "\r\nconnection: close" not in head
    _, found, length = head.partition("\r\ncontent-length:")
    if found:
        body = await reader.readexactly(int(length.partition("\r\n")[0]))
        return Answer(status, body), keep
    if "transfer-encoding: chunked" not in head:
        return Answer(status, b"" if status == 204 else await reader.read()), keep and status == 204
    pieces = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return Answer(status, b"".join(pieces)), keep
