"""Records as CSV: the wide form, which upload takes back and makes the same records of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa

from functions.query.render import format_times, join_rows, look_up, to_list
from shared.fields import FIELDS, find_source
from shared.ingest.dialect import HEADS, LONG_HEADS
from shared.records import KEY, LABELS, chunk

#: Heads that upload takes for something else than a metric of that name.
_TAKEN = frozenset(head for heads in (*HEADS.values(), *LONG_HEADS.values()) for head in heads)
_OWN = frozenset({*KEY, *LABELS, *FIELDS})


def head_of(name: str) -> str:
    """Say what the column of a field is called, so that upload knows it by its name again.

    An uncatalogued metric can have a name that is also another one of something else, such as `time`: upload
    drops an underscore at the end of a name, but only after it looked for others.
    """
    taken = name not in _OWN and (name in _TAKEN or find_source(name) is not None)
    return f"{name}_" if taken else name


def write(
    parts: Iterable[pa.Table], names: Sequence[str] | None, _next: Callable[[], str | None] | None
) -> Iterator[bytes]:
    """Write a line of heads, and a line per record."""
    columns = tuple(names or ())
    yield ",".join(["timestamp", *map(head_of, columns)]).encode() + b"\n"
    for part in parts:
        if part.num_rows:
            yield _render(part, columns)


def _render(table: pa.Table, names: Sequence[str]) -> bytes:
    pieces: list[Any] = [format_times(chunk(table, "timestamp").cast(pa.int64())).cast(pa.binary())]
    constant = b""
    for name in names:
        constant += b","
        values = chunk(table, name) if name in table.column_names else None
        if values is not None and values.null_count < table.num_rows:
            pieces += [constant, _to_cells(values)]
            constant = b""
    return join_rows([*pieces, constant], table.num_rows, b"\n") + b"\n"


def _to_cells(values: pa.Array) -> pa.Array:
    """Write each value as a cell, none where it is null; values that come again are written once."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    words = values.dictionary
    if pa.types.is_floating(words.type):
        return look_up(values, orjson.dumps(to_list(words))[1:-1].split(b","), b"")
    return look_up(values, [_quote(word) for word in words.to_pylist()], b"")


def _quote(word: str | None) -> bytes:
    text = word or ""
    if any(c in text for c in ',"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return text.encode()
