"""The careful way through the cells of a block: text columns become times, numbers and labels.

Still in columns: a cell is looked at by itself only where it could not be taken as it stands.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from shared.fields import NULL_WORDS
from shared.ingest.lines import Lines, shown
from shared.ingest.report import BadCell

#: A label longer than that is something that slipped into the wrong column.
MAX_LABEL_CHARACTERS = 256

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_ISO = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)?$"
)
_ZONE = r":[0-9]{2}.*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_WORDS = pa.array(sorted({w.lower() for w in NULL_WORDS}), pa.string())
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS = pa.timestamp("us")
_MICROSECONDS_UTC = pa.timestamp("us", tz="UTC")


def read_text_columns(rows: Lines, cells: int, wanted: Sequence[int]) -> dict[int, pa.Array]:
    """Parse rows into text columns, trimmed, null where nothing was reported; by column number."""
    names = [str(i) for i in range(cells)]
    data = b"\n".join(rows.rows) + b"\n"
    table = pcsv.read_csv(
        pa.BufferReader(data),
        read_options=pcsv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
        parse_options=pcsv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _: "skip"),
        convert_options=pcsv.ConvertOptions(
            column_types={n: pa.string() for n in names}, include_columns=[str(i) for i in wanted]
        ),
    )
    if table.num_rows != len(rows.rows):
        # Arrow and the line splitter disagree on what a quote means: the splitter decides.
        parsed = [next(csv.reader(row.decode().splitlines(keepends=True))) for row in rows.rows]
        return {i: _tidy(pa.array([row[i] for row in parsed], pa.string())) for i in wanted}
    return {i: _tidy(table.column(str(i)).combine_chunks()) for i in wanted}


def _tidy(values: Any) -> pa.Array:
    values = (
        values
        if isinstance(values, pa.Array)
        else pa.concat_arrays(values.chunks or [pa.array([], pa.string())])
    )
    trimmed = pc.utf8_trim_whitespace(values)
    absent = pc.is_in(pc.utf8_lower(trimmed), value_set=_WORDS)
    return pc.if_else(absent, pa.scalar(None, pa.string()), trimmed)


def bad_cells(
    values: pa.Array, bad: pa.Array, lines: pa.Array, column: str, reason: str, *, rejects: bool = False
) -> list[BadCell]:
    """List the cells that a mask marks; as many as a report could show."""
    places = pc.indices_nonzero(bad)[:200]
    shown_values = values.take(places).to_pylist()
    numbers = lines.take(places).to_pylist()
    return [
        BadCell(line, column, _show(value), reason, rejects=rejects)
        for line, value in zip(numbers, shown_values, strict=True)
    ]


def _show(value: str | float | None) -> str:
    if value is None:
        return ""
    # As it stood in the file, as far as a double tells: 1980 and not 1980.0.
    return f"{value:.15g}" if isinstance(value, float) else shown(value)


def parse_numbers(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Turn text into doubles; also returns a mask of the cells that are neither null nor a number."""
    good = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), True)  # noqa: FBT003
    plain = pc.if_else(good, texts, pa.scalar(None, pa.string()))
    plain = pc.replace_substring_regex(plain, r"^\+", "")
    return plain.cast(pa.float64()), pc.invert(good)


def parse_times(texts: pa.Array) -> tuple[pa.Array, bool]:
    """Turn ISO 8601 text into epoch milliseconds, null where it is no time; a time without a zone is UTC.

    Also tells whether any time had no zone. Finer than a millisecond is cut off.
    """
    good = pc.fill_null(pc.match_substring_regex(texts, _ISO), False)  # noqa: FBT003
    zoned = pc.fill_null(pc.match_substring_regex(texts, _ZONE), False)  # noqa: FBT003
    none = pa.scalar(None, pa.string())
    cut = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]+", r"\1")
    with_zone = pc.if_else(pc.and_(good, zoned), cut, none)
    without = pc.if_else(pc.and_(good, pc.invert(zoned)), cut, none)
    ms = pc.coalesce(_cast_times(with_zone, _MICROSECONDS_UTC), _cast_times(without, _MICROSECONDS))
    return ms, bool(pc.any(pc.and_(pc.is_valid(ms), pc.invert(zoned))).as_py())


def _cast_times(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    if texts.null_count == len(texts):
        return pa.nulls(len(texts), pa.int64())
    try:
        return pc.floor(pc.divide(texts.cast(type_).cast(pa.int64()).cast(pa.float64()), 1000.0)).cast(
            pa.int64()
        )
    except pa.ArrowInvalid:
        # One of them looks like a time and is none (the 31st of February): find it.
        return pa.array([_parse_time(t) for t in texts.to_pylist()], pa.int64())


def _parse_time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    since = time - _EPOCH
    return (since.days * 86_400_000) + since.seconds * 1000 + since.microseconds // 1000
