"""Cursors: where a page of records ended, as a text that nobody needs to understand.

A cursor names the last key that was answered, not how many there were: what is stored meanwhile neither moves
it nor comes twice. It carries the window as it was resolved for the first page, so that `now-15m` means the
same for all of them, and a mark of the question, so that it is not taken for another one's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Hashable
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from functions.query.records import Place, Window
from shared.errors import InvalidInput

_VERSION = 1
#: No cursor that was given is longer.
_MOST_CHARACTERS = 2048
#: Times lie within: `now+999999999w` is one, too.
_MOST_MS = 2**62


class Cursor(NamedTuple):
    """Where a page ended, and what of its question went by the clock."""

    after: Place
    window: Window
    #: What `status` is measured against, epoch ms; None where nobody asks for it.
    reference_ms: int | None = None


def mark_of(question: Hashable) -> str:
    """Make a mark of a question; the repr of which is all that it says."""
    return blake2b(repr(question).encode(), digest_size=8).hexdigest()


def build_cursor(cursor: Cursor, mark: str) -> str:
    """Write a cursor to a question."""
    place, window = cursor.after, cursor.window
    body = [_VERSION, mark, place.uuid, place.ms, window.start_ms, window.end_ms, cursor.reference_ms]
    return base64.urlsafe_b64encode(orjson.dumps(body)).decode().rstrip("=")


def parse_cursor(text: str, mark: str) -> Cursor:
    """Read a cursor to a question.

    Raises:
        InvalidInput: It is none, or is another question's.
    """
    body = _decode(text)
    if body is None:
        raise InvalidInput(
            "cursor: not one that was given: take `next` of a page as it is", parameter="cursor"
        )
    if body[1] != mark:
        raise InvalidInput(
            "cursor: it goes on with another question: ask with the parameters of the page it is from, "
            "but for limit, fields and format",
            parameter="cursor",
        )
    _, _, uuid, ms, start_ms, end_ms, reference_ms = body
    return Cursor(Place(uuid, ms), Window(start_ms=start_ms, end_ms=end_ms), reference_ms)


def _decode(text: str) -> list[Any] | None:
    """Decode a cursor; None where it is not of the form that all have."""
    if len(text) > _MOST_CHARACTERS or not text.isascii():
        return None
    try:
        body = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError):
        return None
    if not (isinstance(body, list) and len(body) == 7 and body[0] == _VERSION):  # noqa: PLR2004
        return None
    if not (isinstance(body[2], str) and body[2] and _is_time(body[3])):
        return None
    return body if all(ms is None or _is_time(ms) for ms in body[4:]) else None


def _is_time(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_MOST_MS <= value <= _MOST_MS
