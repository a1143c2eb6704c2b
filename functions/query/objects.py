"""Columns of text as JSON objects, all rows at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from functions.query.render import join_rows

#: What JSON does not let stand in a string as it is.
_SPECIAL = r'["\\\x00-\x1f]'


def render_objects(columns: Mapping[str, pa.Array | None], rows: int) -> bytes:
    """Write rows as JSON objects with commas between them: text or null, and null where a column is None."""
    pieces: list[Any] = []
    constant = b"{"
    for place, (name, values) in enumerate(columns.items()):
        constant += b'%s"%s":' % (b"," if place else b"", name.encode())
        if values is None or values.null_count == rows:
            constant += b"null"
            continue
        pieces += [constant, _quote(values)]
        constant = b""
    if not pieces:
        return b",".join([constant + b"}"] * rows)
    return join_rows([*pieces, constant + b"}"], rows, b",")


def _quote(values: pa.Array) -> pa.Array:
    """Write texts as JSON; those that come again, as most do, are written once."""
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    words = encoded.dictionary
    if pc.any(pc.match_substring_regex(words, _SPECIAL)).as_py():
        quoted = pa.array([orjson.dumps(word) for word in words.to_pylist()], pa.binary())
    else:
        quoted = pc.binary_join_element_wise(b'"', words.cast(pa.binary()), b'"', b"")
    codes = encoded.indices
    if codes.null_count:
        quoted = pa.concat_arrays([quoted, pa.array([b"null"], pa.binary())])
        codes = codes.fill_null(len(words))
    return quoted.take(codes)
