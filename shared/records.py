"""Records as Arrow tables: their columns, their order, and how rows of one key become one.

A record is one GPU at one instant. Its columns are

  uuid, timestamp        the natural key: dictionary<string>, timestamp[ms, UTC]
  LABELS                 dictionary<string>, null where not reported
  received_at, upload_id, number
                         the version: epoch ms and id of the upload, constant within one; number of the
                         message inside it, so that within one version the last line of the file wins
  any other              a metric: float64, null where not reported, never 0 for it

Labels and metrics that no row reports are left out. Rows of one key are resolved field by field: the newest
version that has a value wins (docs/adr/0003).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("ms", tz="UTC")
TEXT = pa.dictionary(pa.int32(), pa.string())

KEY = ("uuid", "timestamp")
#: What is said of a record besides its metrics; it may change from one record of a GPU to the next.
LABELS = (
    "gpu_id",
    "hostname",
    "device",
    "modelname",
    "cluster",
    "pod",
    "namespace",
    "container",
    "driver_version",
    "gpu_instance_id",
    "gpu_instance_profile",
)
VERSION = ("received_at", "upload_id", "number")
_NOT_METRICS = frozenset(KEY + LABELS + VERSION)
#: Names that an uploaded metric cannot have.
RESERVED = _NOT_METRICS


def metric_names(table: pa.Table) -> list[str]:
    """List the metric columns of a table, in its order."""
    return [name for name in table.column_names if name not in _NOT_METRICS]


def constant_text(value: str, length: int) -> pa.DictionaryArray:
    """Build a text column that says the same in every row."""
    indices = pa.repeat(pa.scalar(0, pa.int32()), length)
    return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))


def with_version(table: pa.Table, *, received_ms: int, upload_id: str, number: int) -> pa.Table:
    """Add the version columns to the rows of one message."""
    rows = table.num_rows
    return (
        table.append_column("received_at", pa.repeat(pa.scalar(received_ms, pa.int64()), rows))
        .append_column("upload_id", constant_text(upload_id, rows))
        .append_column("number", pa.repeat(pa.scalar(number, pa.int32()), rows))
    )


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables of different columns below each other, in one chunk with one dictionary per column."""
    if len(tables) == 1:
        return tables[0].unify_dictionaries().combine_chunks()
    joined = pa.concat_tables(tables, promote_options="default")
    return joined.unify_dictionaries().combine_chunks()


def chunk(table: pa.Table, name: str) -> Any:
    """Return a column of a table that `concat` or `decode` made, as one array."""
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.array([], column.type)


def ranks(column: pa.DictionaryArray) -> pa.Array:
    """Number the values of a text column in their order, row by row."""
    order = pc.sort_indices(column.dictionary)
    return pc.sort_indices(order).take(column.indices)


def _varies(values: pa.Array) -> bool:
    low_high = pc.min_max(values)
    return bool(low_high["min"] != low_high["max"]) if len(values) else False


def sort_resolve(table: pa.Table) -> pa.Table:
    """Sort rows by (uuid, timestamp) and leave one row per key, each field from its newest version.

    The rows of one message must come in the order of the file. `table` is one chunk per column, as
    `concat` makes it; so is the answer.
    """
    columns = {"uuid": ranks(chunk(table, "uuid")), "timestamp": chunk(table, "timestamp").cast(pa.int64())}
    for name in VERSION:
        values = chunk(table, name)
        values = ranks(values) if name == "upload_id" else values
        if _varies(values):
            columns[name] = values
    keys = pa.table(columns)
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
    table, keys = table.take(order), keys.take(order)
    starts = _key_starts(chunk(keys, "uuid"), chunk(keys, "timestamp"))
    if starts is None:
        return table.combine_chunks()
    return _last_of_each(table, starts)


def collapse(table: pa.Table) -> pa.Table:
    """Sort rows by (uuid, timestamp) and make one of those that share key and version; others stay.

    What a fresh segment holds: rows of other versions are resolved when read.
    """
    if not any(_varies(_orderable(table, name)) for name in ("received_at", "upload_id")):
        return sort_resolve(table)
    parts = []
    for upload in pc.unique(chunk(table, "upload_id").dictionary):
        of_upload = pc.equal(chunk(table, "upload_id").cast(pa.string()), upload)
        parts.append(sort_resolve(table.filter(of_upload).combine_chunks()))
    joined = concat(parts)
    keys = pa.table({
        "uuid": ranks(chunk(joined, "uuid")),
        "timestamp": chunk(joined, "timestamp"),
        "received_at": chunk(joined, "received_at"),
    })  # fmt: skip
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
    return joined.take(order).combine_chunks()


def _orderable(table: pa.Table, name: str) -> pa.Array:
    values = chunk(table, name)
    return ranks(values) if pa.types.is_dictionary(values.type) else values


def _key_starts(uuids: pa.Array, times: pa.Array) -> pa.Array | None:
    """Mark the first row of each key in sorted rows; None where every row is one."""
    if len(uuids) < 2:  # noqa: PLR2004
        return None
    same = pc.and_(pc.equal(uuids[1:], uuids[:-1]), pc.equal(times[1:], times[:-1]))
    if not pc.any(same).as_py():
        return None
    return pa.concat_arrays([pa.array([True]), pc.invert(same)])


def _last_of_each(table: pa.Table, starts: pa.Array) -> pa.Table:
    """Make one row of each run that `starts` marks: per column the last value that is not null."""
    columns = {name: chunk(table, name) for name in table.column_names}
    return last_by_key(columns, pc.cumulative_sum(starts.cast(pa.int32())))


def last_by_key(columns: Mapping[str, pa.Array], key: pa.Array) -> pa.Table:
    """Make one row of all that share a key, in order of its first row: per column the last value not null."""
    flat = {n: v.indices if pa.types.is_dictionary(v.type) else v for n, v in columns.items()}
    grouped = pa.table({**flat, "": key}).group_by("", use_threads=False)
    last = grouped.aggregate([(name, "last") for name in flat])
    out = {}
    for name, values in columns.items():
        out[name] = chunk(last, f"{name}_last")
        if pa.types.is_dictionary(values.type):
            out[name] = pa.DictionaryArray.from_arrays(out[name], values.dictionary)
    return pa.table(out)
