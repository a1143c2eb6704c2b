"""A WebSocket on the connection of a request, by simple-websocket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from simple_websocket import ConnectionClosed, Server
from wsproto.utilities import RemoteProtocolError

from shared.errors import InvalidInput

#: Seconds between two pings; without an answer to the last one the connection is given up.
PING_INTERVAL_S = 20.0
#: Seconds in which a message must have gone out: who takes nothing for so long is gone.
_SEND_TIMEOUT_S = 30.0
#: Bytes of one message of a client, and messages that wait to be read.
_MOST_MESSAGE_BYTES, _MOST_UNREAD = 128 * 1024, 64
#: Seconds for the client to answer a close.
_CLOSE_S = 1.0


class WebSocket:
    """What a session talks over; `ConnectionClosed` or `OSError` where it has ended."""

    def __init__(self, server: Server, wire: _Wire) -> None:
        self._server = server
        self._wire = wire

    def send(self, text: str) -> None:
        """Send a text."""
        self._server.send(text)

    def receive(self) -> str | bytes | None:
        """Give the next message that has come, or None."""
        message: str | bytes | None = self._server.receive(timeout=0)
        return message

    def close(self) -> None:
        """Say good-bye, if anybody is still there, and end the thread that reads."""
        with contextlib.suppress(ConnectionClosed, OSError):
            self._server.close()
        self._server.thread.join(_CLOSE_S)
        self._wire.shut_down()
        self._server.thread.join(_CLOSE_S)


@contextlib.contextmanager
def accepted(environ: Mapping[str, Any], wake: threading.Event) -> Iterator[WebSocket]:
    """Upgrade a request, whose connection it then is, until the end of the block.

    Args:
        environ: The request's, of gunicorn.
        wake: Set whenever a message has come.

    Raises:
        InvalidInput: It is no upgrade to a WebSocket, or one of a version that is not known.
    """
    if "gunicorn.socket" not in environ:
        raise InvalidInput("this server cannot upgrade to a WebSocket")
    server: Server | None = None
    wire = _Wire(environ["gunicorn.socket"], lambda: 0 if server is None else len(server.input_buffer))
    try:
        server = Server.accept(
            {**environ, "gunicorn.socket": wire},
            ping_interval=PING_INTERVAL_S,
            max_message_size=_MOST_MESSAGE_BYTES,
            thread_class=partial(threading.Thread, daemon=True),
            event_class=lambda: wake,
        )
    except RemoteProtocolError as exc:
        raise InvalidInput(f"this is no upgrade to a WebSocket: {exc}") from exc
    opened = WebSocket(server, wire)
    try:
        yield opened
    finally:
        opened.close()


class _Wire:
    """The socket, as simple-websocket uses it, from two threads: sends all or fails, and not for ever."""

    def __init__(self, sock: socket.socket, unread: Callable[[], int]) -> None:
        self._socket = sock
        self._unread = unread
        self._lock = threading.Lock()
        sock.settimeout(_SEND_TIMEOUT_S)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: bytes) -> int:
        with self._lock:
            # simple-websocket would take a part for the whole.
            self._socket.sendall(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        if self._unread() > _MOST_UNREAD:
            raise ConnectionResetError("it sends more than can be answered")
        return self._socket.recv(size)

    def shut_down(self) -> None:
        """Wake whoever waits for the client."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
