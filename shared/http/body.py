"""The body of a request: read as it comes, or to its end where nobody wants it."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import ClientDisconnected, HTTPException

#: A body that nobody wants is read to its end up to this size, so that the client gets to read the answer.
MAX_DRAINED_BYTES = 64 * 1024 * 1024


def read_body(request: Request, size: int) -> bytes:
    """Read up to `size` bytes of a body; empty at its end.

    Raises:
        ClientDisconnected: It breaks off, or its chunks are not chunks.
    """
    try:
        data: bytes = request.stream.read(size)
    except HTTPException:
        raise
    except Exception as exc:  # the server has errors of its own for a bad chunk
        raise ClientDisconnected from exc
    return data


def drain(request: Request) -> bool:
    """Read what is left of the body, up to a bound; tells whether that was all."""
    if not request.content_length and "Transfer-Encoding" not in request.headers:
        return True  # it has none, whatever its method
    left = MAX_DRAINED_BYTES
    try:
        while left > 0:
            piece = read_body(request, min(left, 1024 * 1024))
            if not piece:
                return True
            left -= len(piece)
    except HTTPException:
        return False
    return False
