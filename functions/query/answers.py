"""Answers that were given, kept as bytes: what they were made of never changes.

An answer about one GPU is a matter of the question and of the segments that may hold its records, and
segments are immutable. So a dashboard that asks again gets the same bytes while nothing new came for that
GPU and that time, whatever else is uploaded meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator

from flask import Response

from shared.http import stream_response
from shared.store.read import Cache

JSON = "application/json"
#: Bytes kept of all answers, and of one: a longer one is streamed, and made anew each time.
BUDGET_BYTES = 32 * 1024 * 1024
MOST_BYTES = 1024 * 1024


class Answers:
    """Keeps answers within a byte budget; safe to share between threads."""

    def __init__(self) -> None:
        self._kept: Cache[bytes] = Cache(BUDGET_BYTES, len)

    def find(self, question: Hashable) -> Response | None:
        """Return the answer that is kept for a question, which is all that it depends on."""
        kept = self._kept.get(repr(question))
        return None if kept is None else Response(kept, 200, content_type=JSON)

    def answer(self, question: Hashable, pieces: Iterator[bytes], is_of: Callable[[], bool]) -> Response:
        """Answer with pieces, and keep them where they are few.

        Args:
            question: All that the answer depends on.
            pieces: Of JSON. What they raise before MOST_BYTES were made, is raised.
            is_of: Asked at the end, whether what was made really is of the question.
        """
        body, whole = _take(pieces)
        if not whole:
            return stream_response(itertools.chain([body], pieces), JSON)
        if is_of():
            self._kept.put(repr(question), body)
        return Response(body, 200, content_type=JSON)


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
