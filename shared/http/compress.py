"""Answers as gzip, for who takes it: whole ones at once, streamed ones piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import cast

from flask import Request, Response
from werkzeug.http import parse_accept_header

#: A shorter answer would hardly be shorter.
LEAST_BYTES = 1024
#: The quickest: records repeat themselves so much that it makes a tenth of them already.
_LEVEL = 1
#: zlib's number for gzip's header and sum around the largest window.
_GZIP = 31
_TYPES = frozenset({
    "application/javascript",
    "application/json",
    "application/x-ndjson",
    "image/svg+xml",
    "text/javascript",
})  # fmt: skip


def compress(request: Request, response: Response) -> None:
    """Compress an answer where that helps and the client takes it; what is compressed already stays."""
    if not _is_text(response.mimetype or "") or "Content-Encoding" in response.headers:
        return
    vary = response.headers.get("Vary")
    response.headers["Vary"] = "Accept-Encoding" if vary is None else f"{vary}, Accept-Encoding"
    has_body = request.method != "HEAD" and response.status_code not in (204, 304)
    if (
        not has_body
        or response.direct_passthrough
        or not _takes_gzip(request.headers.get("Accept-Encoding", ""))
    ):
        return
    if response.is_streamed:
        response.response = Compressed(cast("Iterable[bytes]", response.response))
        response.headers.pop("Content-Length", None)
    else:
        body = response.get_data()
        if len(body) < LEAST_BYTES:
            return
        response.set_data(zlib.compress(body, _LEVEL, _GZIP))
    response.headers["Content-Encoding"] = "gzip"


def _is_text(mimetype: str) -> bool:
    return mimetype.startswith("text/") or mimetype in _TYPES or mimetype.endswith("+json")


@lru_cache(maxsize=256)
def _takes_gzip(accept: str) -> bool:
    """Tell whether a header Accept-Encoding takes gzip, and would not rather have the answer as it is."""
    said = {name.lower(): quality for name, quality in parse_accept_header(accept)}
    gzip = said.get("gzip", said.get("x-gzip", said.get("*", 0)))
    return gzip > 0 and gzip >= said.get("identity", 0)


class Compressed:
    """The pieces of an answer as gzip. Where they break off, so does it: no reader takes it for whole."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts
        self._pieces = self._compress()

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def _compress(self) -> Iterator[bytes]:
        stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        for part in self._parts:
            piece = stream.compress(part)
            if piece:
                yield piece
        yield stream.flush()

    def close(self) -> None:
        """Close what it is made of."""
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()
