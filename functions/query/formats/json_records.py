"""Records as JSON: in an envelope, or a line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import orjson
import pyarrow as pa

from functions.query.render import render_records


def write_envelope(
    parts: Iterable[pa.Table], names: Sequence[str] | None, next_page: Callable[[], str | None] | None
) -> Iterator[bytes]:
    """Write the whole answer: the envelope, the records, and at the end their number and what is next."""
    opening = b'{"success":true,"data":['
    count = 0
    for part in parts:
        if not part.num_rows:
            continue
        yield (opening if not count else b",") + render_records(part, names)
        count += part.num_rows
    after = b"" if next_page is None else b',"next":' + orjson.dumps(next_page())
    yield (opening if not count else b"") + b'],"count":%d%s}\n' % (count, after)


def write_lines(
    parts: Iterable[pa.Table], names: Sequence[str] | None, _next: Callable[[], str | None] | None
) -> Iterator[bytes]:
    """Write each record as a line."""
    for part in parts:
        if part.num_rows:
            yield render_records(part, names, b"\n") + b"\n"
