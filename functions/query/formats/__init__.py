"""The formats in which records are answered, and which of them a request is answered in.

A format is written piece by piece from chunks of records. JSON has an envelope, in which the cursor of the
next page stands at the end. The others are records only: what they leave out is said before the body, or else
the answer breaks off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import pyarrow as pa
from flask import Request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from functions.query.formats import json_records, wide_csv
from shared.api.telemetry import FORMAT_TYPES, FormatName
from shared.errors import NotAcceptable

#: Chunks of records, the columns after the time (None: those that there are), and the cursor of the next
#: page, asked for at the end.
Write: TypeAlias = Callable[
    [Iterable[pa.Table], Sequence[str] | None, Callable[[], str | None] | None], Iterator[bytes]
]


class Format(NamedTuple):
    """A way to write records."""

    name: FormatName
    write: Write
    #: Whether the cursor of the next page has a place in the body.
    has_envelope: bool = False
    #: Whether it begins with a list of its columns.
    has_columns: bool = False

    @property
    def content_type(self) -> str:
        """What its content type is."""
        return FORMAT_TYPES[self.name]


def _write_parquet(
    parts: Iterable[pa.Table], names: Sequence[str] | None, _next: Callable[[], str | None] | None
) -> Iterator[bytes]:
    from functions.query.formats import parquet  # noqa: PLC0415 - it takes long, and few ask for it

    return parquet.write(parts, names or ())


#: The first is what whoever takes anything gets.
FORMATS = (
    Format("json", json_records.write_envelope, has_envelope=True),
    Format("ndjson", json_records.write_lines),
    Format("csv", wide_csv.write, has_columns=True),
    Format("parquet", _write_parquet, has_columns=True),
)
_BY_NAME = {f.name: f for f in FORMATS}


def choose_format(request: Request, name: FormatName | None) -> Format:
    """Choose the format of an answer: the one that is named, else what the header Accept likes best.

    Raises:
        NotAcceptable: It takes none of them.
    """
    if name is not None:
        return _BY_NAME[name]
    accept = request.headers.get("Accept", "")
    best = _best_of(accept)
    if best is None:
        raise NotAcceptable(
            f"Accept: {accept[:200]}: records come as {', '.join(FORMAT_TYPES.values())}",
            types=list(FORMAT_TYPES.values()),
        )
    return best


@lru_cache(maxsize=256)
def _best_of(accept: str) -> Format | None:
    """Find the format that a header Accept likes best; clients send the same one again and again."""
    said = parse_accept_header(accept, MIMEAccept)
    accepted = [(value.partition(";")[0].strip().lower(), quality) for value, quality in said]
    if not accepted:
        return FORMATS[0]
    best = max(FORMATS, key=lambda f: _quality(f.content_type, accepted))
    return best if _quality(best.content_type, accepted) > 0 else None


def _quality(content_type: str, accepted: Sequence[tuple[str, float]]) -> float:
    """Find how much a content type is liked, 0 to 1: the most precise of what is said of it counts."""
    said = dict(reversed(accepted))
    family = content_type.partition("/")[0] + "/*"
    return next((said[name] for name in (content_type, family, "*/*") if name in said), 0.0)
