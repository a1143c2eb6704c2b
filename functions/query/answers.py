"""Answers of records, not made again where the client has them, or where they are kept.

An answer is a matter of the question and of what is stored. Of one GPU that is the segments that may hold
its records, and segments are immutable. So a dashboard that asks again gets 304 or the same bytes while
nothing new came for that GPU and that time, whatever else is uploaded meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from flask import Request, Response

from functions.query.formats import Format
from shared.api.endpoint import ROWS
from shared.http import stream_response
from shared.store.read import Cache

#: Bytes kept of all answers, and of one: a longer one is streamed, and made anew each time.
BUDGET_BYTES = 32 * 1024 * 1024
MOST_BYTES = 1024 * 1024
#: Changes when the same records are written in another way: what clients have is not the same then.
_FORM = 1


class Kept(NamedTuple):
    """The body of an answer, and what its headers say of it."""

    body: bytes
    headers: dict[str, str]

    def size(self) -> int:
        """Tell about how much memory it takes."""
        return len(self.body) + 500


def name_answer(*of: Hashable) -> str:
    """Name an answer by all that it depends on: a weak ETag, for it may be compressed on the way."""
    return f'W/"{blake2b(repr((_FORM, of)).encode(), digest_size=12).hexdigest()}"'


class Answers:
    """Keeps answers within a byte budget; safe to share between threads."""

    def __init__(self) -> None:
        self._kept: Cache[Kept] = Cache(BUDGET_BYTES, Kept.size)

    def find(self, request: Request, etag: str) -> Response | None:
        """Return the answer of a name where the client has it, 304, or where it is kept."""
        if "If-None-Match" in request.headers:
            known = request.if_none_match
            if not known.star_tag and known.contains_weak(etag[3:-1]):
                return Response(status=304, headers={"ETag": etag, "Vary": "Accept"})
        kept = self._kept.get(etag)
        return None if kept is None else Response(kept.body, 200, kept.headers)

    def answer(
        self,
        etag: str | None,
        form: Format,
        pieces: Iterator[bytes],
        *,
        rows: Callable[[], int | None] = lambda: None,
        next_link: Callable[[], str | None] = lambda: None,
        is_of: Callable[[], bool] = lambda: True,
    ) -> Response:
        """Answer with pieces, and keep them where they are few.

        Args:
            etag: What the answer is called, see `name_answer`; None where it is not to be known again.
            form: What the pieces are in.
            pieces: What they raise before MOST_BYTES were made, is raised; later it breaks the connection.
            rows: Asked before the first is sent: how many records there are, if that is known.
            next_link: Asked before the first is sent: where the next page is, if that is known.
            is_of: Asked when a short answer is made, whether what was made really is of that name.
        """
        headers = {"Content-Type": form.content_type, "Vary": "Accept"}
        if etag is not None:
            headers["ETag"] = etag
        body, whole = _take(pieces)
        link = next_link()
        count = rows()
        if count is not None:
            headers[ROWS] = str(count)
        if link is not None:
            headers["Link"] = f'<{link}>; rel="next"'
        if not whole:
            response = stream_response(itertools.chain([body], pieces), form.content_type)
            response.headers.update(headers)
            return response
        if etag is not None and is_of():
            self._kept.put(etag, Kept(body, headers))
        return Response(body, 200, headers)


def _take(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """Take pieces until they are too many to keep; tells whether that was all of them."""
    taken: list[bytes] = []
    size = 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            return b"".join(taken), False
    return b"".join(taken), True
