"""Lists of GPUs: in which order, and where a page of them goes on."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Hashable
from hashlib import blake2b
from typing import NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import InvalidInput
from shared.records import chunk, ranks

#: No cursor that was given is longer.
_MOST_CHARACTERS = 8192
#: An index of more digits is taken for a name.
_MOST_DIGITS = 9


class Page(NamedTuple):
    """Some GPUs in order, and the cursor to go on from; None where that were all."""

    gpus: pa.Table
    next: str | None


def order_gpus(table: pa.Table) -> pa.Table:
    """Order GPUs, which are ordered by uuid, by host, then by index as a number, then by uuid."""
    hosts = _texts(table, "hostname").dictionary_encode()
    ids = _texts(table, "gpu_id").dictionary_encode()
    words = ids.dictionary.to_pylist()
    rank = {word: place for place, word in enumerate(sorted(words, key=_numeric))}
    by_id = pa.array([rank[word] for word in words], pa.int64()).take(ids.indices)
    by_host = pc.multiply(ranks(hosts).cast(pa.int64()), max(len(words), 1))
    # The sort is stable: within one host and index it stays ordered by uuid.
    return table.take(pc.sort_indices(pc.add(by_host, by_id)))


def cut_page(ordered: pa.Table, question: Hashable, limit: int | None, cursor: str | None) -> Page:
    """Cut a page out of ordered GPUs: so many, from where the one before ended.

    A cursor names the GPU that came last, not how many there were: what comes and goes moves nothing.

    Args:
        ordered: As `order_gpus` makes it.
        question: What a cursor must be of.
        limit: How many GPUs, at most.
        cursor: `next` of the page before.

    Raises:
        InvalidInput: The cursor is none, or another question's.
    """
    mark = blake2b(repr(question).encode(), digest_size=8).hexdigest()
    keys = [_texts(ordered, name) for name in ("hostname", "gpu_id", "uuid")]
    begin = 0
    if cursor is not None:
        host, gpu_id, uuid = _parse_cursor(cursor, mark)
        begin = bisect_right(
            range(ordered.num_rows),
            (host, _numeric(gpu_id), uuid),
            key=lambda row: (keys[0][row].as_py(), _numeric(keys[1][row].as_py()), keys[2][row].as_py()),
        )
    page = ordered.slice(begin, limit)
    end = begin + page.num_rows
    if end >= ordered.num_rows or not page.num_rows:
        return Page(page, None)
    body = orjson.dumps([mark, *(values[end - 1].as_py() for values in keys)])
    return Page(page, base64.urlsafe_b64encode(body).decode().rstrip("="))


def _parse_cursor(text: str, mark: str) -> tuple[str, str, str]:
    found = None
    if len(text) <= _MOST_CHARACTERS and text.isascii():
        try:
            found = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
        except (binascii.Error, ValueError):
            found = None
    if not (isinstance(found, list) and len(found) == 4 and all(isinstance(t, str) for t in found)):  # noqa: PLR2004
        raise InvalidInput(
            "cursor: not one that was given: take `next` of a page as it is", parameter="cursor"
        )
    if found[0] != mark:
        raise InvalidInput(
            "cursor: it goes on with another question: ask with the parameters of the page it is from, "
            "but for limit",
            parameter="cursor",
        )
    return found[1], found[2], found[3]


def _texts(table: pa.Table, name: str) -> pa.Array:
    """Take a column of texts, empty where there is none."""
    if name not in table.column_names:
        return pa.repeat(pa.scalar("", pa.string()), table.num_rows)
    return chunk(table, name).fill_null("")


def _numeric(text: str) -> tuple[int, str]:
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text), text
    return 10**_MOST_DIGITS, text
