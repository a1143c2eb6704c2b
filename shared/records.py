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

from collections.abc import Collection, Iterable, Mapping, Sequence
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
#: The column that an inventory has beside a record's (shared/store/inventory.py).
FIRST_SEEN = "@first_seen"
#: Columns that a summary of GPUs has beside metrics and labels: no metric can be called so.
FIRST_MS, LAST_MS, STATUS = "@first_ms", "@last_ms", "@status"
#: Names that an uploaded metric cannot have.
RESERVED = _NOT_METRICS | {FIRST_SEEN}


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


def _sort(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Sort rows by (uuid, timestamp, version); returns them and, row by row, what they were sorted by."""
    columns = {"uuid": ranks(chunk(table, "uuid")), "timestamp": chunk(table, "timestamp").cast(pa.int64())}
    for name in VERSION:
        values = chunk(table, name)
        values = ranks(values) if name == "upload_id" else values
        if _varies(values):
            columns[name] = values
    keys = pa.table(columns)
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
    return table.take(order).combine_chunks(), keys.take(order).combine_chunks()


def sort_resolve(table: pa.Table) -> pa.Table:
    """Sort rows by (uuid, timestamp) and leave one row per key, each field from its newest version.

    The rows of one message must come in the order of the file. `table` is one chunk per column, as
    `concat` makes it; so is the answer.
    """
    table, keys = _sort(table)
    starts = _run_starts(keys, KEY)
    return table if starts is None else _last_of_each(table, starts)


def collapse(table: pa.Table, settled: Collection[str] = ()) -> pa.Table:
    """Sort rows by (uuid, timestamp, version) and leave out what no reader will miss: what segments hold.

    Rows of one key and one version become one; a row all of whose values newer rows of its key have too is
    dropped. What is left resolves to the same record whatever else comes, in whatever grouping: a row is
    never given a version that is not its own (docs/adr/0003).

    Args:
        table: Rows as `concat` makes them; those of one message in the order of the file.
        settled: Uploads of which every row of these keys is in `table` and none can come any more: of these
            the messages count as one, so that metrics spread over several of them come together.
    """
    table, keys = _sort(table)
    starts = _run_starts(keys, KEY)
    if starts is None:
        return table
    follows = pc.invert(starts)
    several = pc.or_(follows, pa.concat_arrays([follows[1:], pa.array([False])]))
    single = table.filter(pc.invert(several))
    shared = _collapse_runs(table.filter(several).combine_chunks(), keys.filter(several), settled)
    return _sort(concat([single, shared]) if single.num_rows else shared)[0]


def newest_of_each(table: pa.Table) -> pa.Table:
    """Keep of each GPU the newest row and those that the newest value of a field is taken from, sorted."""
    table, keys = _sort(table)
    starts = _run_starts(keys, ("uuid",))
    return table if starts is None else _drop_covered(table, starts)


def _collapse_runs(table: pa.Table, keys: pa.Table, settled: Collection[str]) -> pa.Table:
    """Collapse sorted rows of which each shares its key with another."""
    keys = keys.combine_chunks()
    names = [name for name in keys.column_names if name != "number"]
    starts = _run_starts(keys, names)
    if starts is not None and "number" in keys.column_names:
        by_number = _run_starts(keys, keys.column_names)
        done = pa.array(sorted(settled), pa.string())
        together = pc.is_in(chunk(table, "upload_id").cast(pa.string()), value_set=done)
        starts = pc.if_else(together, starts, True if by_number is None else by_number)
    if starts is not None:
        table = _last_of_each(table, starts).combine_chunks()
        keys = keys.filter(starts).combine_chunks()
    key_starts = _run_starts(keys, KEY)
    return table if key_starts is None else _drop_covered(table, key_starts)


def _drop_covered(table: pa.Table, starts: pa.Array) -> pa.Table:
    """Keep, of each run of rows of one key, the last row and those with a field that no later one has."""
    run = pc.cumulative_sum(starts.cast(pa.int32()))
    kept = [_run_ends(run)]
    for name in table.column_names:
        if name not in KEY and name not in VERSION:
            places = pc.indices_nonzero(pc.is_valid(chunk(table, name)))
            if len(places):
                kept.append(places.take(_run_ends(run.take(places))))
    places = pc.unique(pa.concat_arrays([k.cast(pa.uint64()) for k in kept]))
    return table.take(places.take(pc.sort_indices(places))).combine_chunks()


def _run_ends(run: pa.Array) -> pa.Array:
    """Find the place of the last of each run of equal numbers."""
    last = pa.array([True])
    if len(run) > 1:
        last = pa.concat_arrays([pc.not_equal(run[1:], run[:-1]), last])
    return pc.indices_nonzero(last)


def _run_starts(keys: pa.Table, names: Iterable[str]) -> pa.Array | None:
    """Mark the first row of each run that agrees in some columns; None where every row is one."""
    if keys.num_rows < 2:  # noqa: PLR2004
        return None
    same: Any = None
    for name in names:
        values = chunk(keys, name)
        equal = pc.equal(values[1:], values[:-1])
        same = equal if same is None else pc.and_(same, equal)
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
            out[name] = text_of(out[name], values.dictionary)
    return pa.table(out)


def text_of(codes: pa.Array, words: pa.Array) -> pa.DictionaryArray:
    """Build a text column from places in its dictionary, as an aggregation leaves them.

    It leaves the least or the largest number under a null, and Arrow looks that up, and crashes, when
    dictionaries are unified.
    """
    if codes.null_count:
        valid, numbers = codes.is_valid(), codes.fill_null(0)
        buffers = [pc.if_else(valid, valid, None).buffers()[0], numbers.buffers()[1]]
        codes = pa.Array.from_buffers(codes.type, len(codes), buffers)
    return pa.DictionaryArray.from_arrays(codes, words)
