"""The connection of a request: how long it may stand still, and how it breaks."""

from __future__ import annotations

import contextlib
import socket
import struct

from flask import Request

#: Seconds without a byte, either way, after which a client is given up.
PATIENCE_S = 60


def limit_patience(request: Request) -> None:
    """Have a connection fail where nothing moves on it for long: each holds a thread, and they are few.

    By the kernel's timeouts, which begin anew with each byte that moves: Python's own would end a long answer
    on a slow line, too.
    """
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return
    with contextlib.suppress(OSError):  # it is closed already
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE_S, 0))


def break_off(request: Request) -> None:
    """Reset a connection whose answer ends with it, as in HTTP/1.0, which many proxies speak.

    There a close means that the answer is whole. Chunks tell by themselves that the last one is missing.
    """
    connection = request.environ.get("gunicorn.socket")
    if connection is None or request.environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
