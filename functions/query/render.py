"""Records and GPUs as JSON, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared.fields import FIXED_METRICS
from shared.records import LABELS, chunk, metric_names

#: What opens every record, and which further labels follow where they are reported.
_FIRST = ("gpu_id", "uuid", "hostname")
_FURTHER = tuple(name for name in LABELS if name not in _FIRST)


def to_list(values: pa.Array) -> list[Any]:
    """Turn an array into a list, null as None; several times faster than to_pylist on numbers and labels."""
    if pa.types.is_dictionary(values.type):
        words = [*values.dictionary.to_pylist(), None]
        return [words[code] for code in _numbers(values.indices.fill_null(len(words) - 1), "i")]
    if values.type != pa.float64():
        return cast("list[Any]", values.to_pylist())
    out: list[Any] = _numbers(values, "d")
    if values.null_count:
        for place in _numbers(pc.indices_nonzero(pc.is_null(values)), "Q"):
            out[place] = None
    return out


def _numbers(values: pa.Array, form: Literal["i", "d", "Q"]) -> list[Any]:
    """Read the buffer of an array of numbers; what stands where it is null means nothing."""
    buffer = values.buffers()[1]
    if buffer is None:
        return []
    numbers: memoryview[Any] = memoryview(buffer).cast("B").cast(form)
    return numbers[values.offset : values.offset + len(values)].tolist()


def format_times(ms: pa.Array) -> pa.Array:
    """Write epoch milliseconds as RFC 3339, with three decimals only where there is a fraction."""
    whole = pc.multiply(pc.divide(ms, 1000), 1000)
    seconds = pc.strftime(pc.divide(ms, 1000).cast(pa.timestamp("s")), format="%Y-%m-%dT%H:%M:%S")
    fraction = pc.subtract(ms, whole)
    if not pc.any(pc.not_equal(fraction, 0)).as_py():
        return pc.binary_join_element_wise(seconds, "Z", "")
    digits = pc.utf8_lpad(fraction.cast(pa.string()), 3, "0")
    with_fraction = pc.binary_join_element_wise(seconds, ".", digits, "Z", "")
    return pc.if_else(pc.equal(fraction, 0), pc.binary_join_element_wise(seconds, "Z", ""), with_fraction)


def record_columns(table: pa.Table) -> dict[str, list[Any]]:
    """Turn records into lists by field: the fixed ones always, the others where one of them has a value."""
    rows = table.num_rows
    out: dict[str, list[Any]] = {
        "timestamp": format_times(chunk(table, "timestamp").cast(pa.int64())).to_pylist()
    }
    present = set(table.column_names)
    names = [*_FIRST, *FIXED_METRICS]
    names += sorted(n for n in metric_names(table) if n not in FIXED_METRICS)
    names += [n for n in _FURTHER if n in present]
    always = {*_FIRST, *FIXED_METRICS}
    for name in names:
        values = chunk(table, name) if name in present else None
        if values is not None and values.null_count < rows:
            out[name] = to_list(values)
        elif name in always:
            out[name] = [None] * rows
    return out


def render_records(table: pa.Table) -> bytes:
    """Write records as JSON objects separated by commas, without brackets around them."""
    columns = record_columns(table)
    names = list(columns)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return orjson.dumps(rows)[1:-1]


def iter_envelope(parts: Iterable[pa.Table]) -> Iterator[bytes]:
    """Write the whole answer: the envelope, the records, and at the end how many they were."""
    opening = b'{"success":true,"data":['
    count = 0
    for part in parts:
        if not part.num_rows:
            continue
        yield (opening if not count else b",") + render_records(part)
        count += part.num_rows
    yield (opening if not count else b"") + b'],"count":%d}\n' % count


def render_gpus(summary: pa.Table) -> list[dict[str, Any]]:
    """Write a summary with status as the list of GPUs."""
    rows = summary.to_pylist()
    first = format_times(chunk(summary, "first_ms")).to_pylist()
    last = format_times(chunk(summary, "last_ms")).to_pylist()
    return [
        {
            "id": row.get("gpu_id"),
            "uuid": row["uuid"],
            "hostname": row.get("hostname"),
            "name": row.get("modelname"),
            "device": row.get("device"),
            "status": row["status"],
            "cluster": row.get("cluster"),
            "first_seen": first_seen,
            "last_seen": last_seen,
        }
        for row, first_seen, last_seen in zip(rows, first, last, strict=True)
    ]
