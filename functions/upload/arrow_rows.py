"""Rows that come as Arrow: checked column by column, and brought to the types of shared/records.py.

Unlike a CSV's, these rows were records before. So a column that is not what it should be refuses the whole
stream; only a metric outside its range becomes null, as it does everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from functions.upload.arrow_stream import CheckedStreams, Read
from shared.clock import MAX_TIME_MS
from shared.errors import InvalidInput
from shared.fields import FIELDS, find_source, own_source
from shared.ingest.cells import MAX_LABEL_CHARACTERS, bad_cells
from shared.ingest.report import Report
from shared.ingest.summary import Summary
from shared.ingest.values import MAX_METRICS
from shared.messages import find_bad_version
from shared.records import KEY, LABELS, RESERVED, TEXT, TIMESTAMP, VERSION

_EXPECTED = {"uuid": "text", "timestamp": "timestamp[ms, UTC]", "upload_id": "text"}
_NO_NUMBER = pa.scalar(None, pa.float64())
_WHOLE = {"received_at": pa.int64(), "number": pa.int32()}


def iter_rows(read: Read) -> Iterator[tuple[pa.Table, Report]]:
    """Read Arrow IPC streams, one after the other; yields their batches as records with versions.

    Raises:
        InvalidInput: Not such streams, or a column is wrong: names it, and what would be right.
        LimitExceeded: A batch is larger than it may be.
    """
    source = CheckedStreams(read)
    rows = 0
    while not source.exhausted():
        for table, report in _iter_stream(source, rows):
            yield table, report
            rows += report.rows


def _iter_stream(source: CheckedStreams, first_row: int) -> Iterator[tuple[pa.Table, Report]]:
    """Read the next stream. Its metadata may say of which `file` it is: an error then says so too."""
    file = ""
    try:
        with pa.ipc.open_stream(source) as stream:
            file = (stream.schema.metadata or {}).get(b"file", b"").decode(errors="replace")[:1024]
            names = check_schema(stream.schema)
            for batch in stream:
                batch.validate(full=True)
                if batch.num_rows:
                    yield _check_batch(batch.select(names), first_row)
                    first_row += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        reason = " ".join(str(exc).split())
        raise InvalidInput(f"{_said(file)}the Arrow IPC stream cannot be read: {reason}", file=file) from exc
    except InvalidInput as exc:
        raise InvalidInput(f"{_said(file)}{exc.message}", file=file, **exc.details) from exc


def _said(file: str) -> str:
    return f"{file}: " if file else ""


def check_schema(schema: pa.Schema) -> list[str]:
    """Check the names and types of columns; returns those that can hold anything.

    Raises:
        InvalidInput: One is wrong, missing or there twice.
    """
    names = schema.names
    for name in (*KEY, *VERSION):
        if name not in names:
            why = " as `gpu-telemetry export` writes it" if name in VERSION else ""
            raise _wrong(name, f"is missing: every row needs it{why}")
    if len(names) > len(RESERVED) + MAX_METRICS:
        raise InvalidInput(f"the stream has {len(names)} columns: at most {MAX_METRICS} metrics are taken")
    seen = set()
    for field in schema:
        if field.name in seen:
            raise _wrong(field.name, "is there twice")
        seen.add(field.name)
        _check_field(field)
    return [f.name for f in schema if not pa.types.is_null(f.type)]


def _check_field(field: pa.Field) -> None:
    name, type_ = field.name, field.type
    optional = name not in KEY + VERSION
    if optional and pa.types.is_null(type_):
        return
    if name == "timestamp":
        good, expected = pa.types.is_timestamp(type_), "timestamp[ms, UTC]"
    elif name in _WHOLE:
        good, expected = pa.types.is_integer(type_), str(_WHOLE[name])
    elif name in RESERVED:
        good, expected = _is_text(type_), "text"
    else:
        good, expected = pa.types.is_floating(type_) or pa.types.is_integer(type_), "double: a metric"
        _check_metric_name(name)
    if not good:
        raise _wrong(name, f"is {str(type_)[:100]}: expected {expected}")


def _check_metric_name(name: str) -> None:
    known, own = find_source(name), own_source(name)
    if known is not None and known.field.name != name:
        raise _wrong(name, f"is another name of {known.field.name}: expected that")
    if known is None and (own is None or own.field.name != name):
        raise _wrong(name, "cannot be a metric: expected a letter, then letters a-z, digits or _")


def _is_text(type_: pa.DataType) -> bool:
    value = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _wrong(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"column {name[:200]!r} {what}", column=name[:200])


def _check_batch(batch: pa.RecordBatch, first_row: int) -> tuple[pa.Table, Report]:
    report = Report(rows=batch.num_rows, accepted=batch.num_rows)
    columns: dict[str, pa.Array] = {}
    for name in batch.schema.names:
        values = batch.column(name)
        if name not in KEY + VERSION and values.null_count == len(values):
            continue
        if name == "timestamp":
            columns[name] = _times(values, report)
        elif name in _WHOLE:
            columns[name] = _cast(name, values, _WHOLE[name])
        elif name in RESERVED:
            columns[name] = _texts(name, values)
        else:
            columns[name] = _metric(name, values, first_row, report)
    for name in KEY:
        if columns[name].null_count:
            raise _wrong(name, f"has rows without a value: expected {_EXPECTED[name]} in every row")
    table = pa.table(columns)
    wrong = find_bad_version(table)
    if wrong is not None:
        raise _wrong(wrong[0], f"holds what it cannot: {wrong[1]}")
    Summary().note(table, report)
    return table, report


def _cast(name: str, values: pa.Array, type_: pa.DataType) -> pa.Array:
    try:
        return values.cast(type_)
    except pa.ArrowInvalid as exc:
        raise _wrong(name, f"holds what it cannot: {' '.join(str(exc).split())}") from exc


def _times(values: pa.Array, report: Report) -> pa.Array:
    if values.type.tz is None:
        report.warn("timestamps have no time zone: UTC was assumed")
    times = _cast("timestamp", _cast("timestamp", values, pa.timestamp("ms", values.type.tz)), TIMESTAMP)
    bounds = pc.min_max(times.cast(pa.int64()))
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is not None and (low < 0 or high >= MAX_TIME_MS):
        raise _wrong("timestamp", "holds what it cannot: expected the years 1970 to 2199")
    return times


def _texts(name: str, values: pa.Array) -> pa.Array:
    """Make a column of text with a dictionary of its own, of the words in it and no others."""
    texts = values.cast(pa.string())
    if name in LABELS:
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    out: Any = texts.dictionary_encode().cast(TEXT)
    lengths = pc.min_max(pc.utf8_length(out.dictionary))
    if (lengths["max"].as_py() or 0) > MAX_LABEL_CHARACTERS:
        raise _wrong(name, f"holds more than {MAX_LABEL_CHARACTERS} characters")
    if lengths["min"].as_py() == 0:
        raise _wrong(name, "holds an empty text: expected the id of a GPU or upload")
    return out


def _metric(name: str, values: pa.Array, first_row: int, report: Report) -> pa.Array:
    """Make null what lies outside the range of a metric; NaN is what some writers have for null.

    DCGM's blanks are nothing special here: a record that was stored holds none, but may hold such a number.
    """
    low, high = _range_of(name)
    numbers = _cast(name, values, pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), _NO_NUMBER, numbers)
    inside = pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
    bad = pc.invert(pc.fill_null(pc.and_(inside, pc.is_finite(numbers)), True))  # noqa: FBT003
    count = pc.sum(bad).as_py() or 0
    if not count:
        return numbers
    rows = pa.array(range(first_row + 1, first_row + 1 + len(values)), pa.int64())
    report.nulled += count
    report.note(
        bad_cells(numbers, bad, rows, name, f"out of range: {name} lies between {low:g} and {high:g}")
    )
    return pc.if_else(bad, _NO_NUMBER, numbers)


def _range_of(name: str) -> tuple[float, float]:
    field = FIELDS.get(name)
    return (-math.inf, math.inf) if field is None else (field.minimum, field.maximum)
