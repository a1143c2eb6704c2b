"""Sorted records as Parquet bytes, in and out; no I/O here.

Metrics that are decimals of up to three places are stored as integers, and those as steps from one record to
the next (numbers.py). pyarrow.parquet is imported where it is used: a cold upload never needs it.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared.records import KEY, LABELS, TEXT, TIMESTAMP, VERSION, chunk
from shared.store.numbers import from_steps, scale_exactly, to_steps, unscale

#: What Parquet bytes begin with.
MAGIC = b"PAR1"
#: Written into each segment; a reader refuses a newer one.
SCHEMA_VERSION = 2
#: What a query of one GPU decodes of a large segment.
ROW_GROUP_ROWS = 32 * 1024

#: A dictionary that is not worth looking at for words that no row uses.
_SMALL_DICTIONARY = 16


def encode_parquet(table: pa.Table) -> bytes:
    """Write sorted records as Parquet; columns without any value are left out."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns: dict[str, Any] = {}
    encodings: dict[str, str] = {}
    scales: dict[str, int] = {}
    for name in table.column_names:
        values = chunk(table, name)
        if values.null_count == len(values) and name not in KEY + VERSION:
            continue
        if pa.types.is_floating(values.type):
            encodings[name] = "BYTE_STREAM_SPLIT"
            scaled = scale_exactly(values)
            if scaled is not None:
                values, scales[name] = to_steps(scaled[0], ROW_GROUP_ROWS), scaled[1]
        elif pa.types.is_dictionary(values.type):
            values = trimmed(values)
        else:
            encodings[name] = "DELTA_BINARY_PACKED"
        columns[name] = values
    out = pa.table(columns).replace_schema_metadata(
        {"schema_version": str(SCHEMA_VERSION), "scales": orjson.dumps(scales)}
    )
    sink = io.BytesIO()
    pq.write_table(
        out,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=[n for n in columns if n not in encodings],
        column_encoding=encodings,
        row_group_size=ROW_GROUP_ROWS,
        write_statistics=["uuid", "timestamp"],
        store_schema=True,
        data_page_size=256 * 1024,
    )
    return sink.getvalue()


def trimmed(values: pa.DictionaryArray) -> pa.DictionaryArray:
    """Leave out of a text column's dictionary what no row says: a part of a table still has all of it."""
    if len(values.dictionary) <= _SMALL_DICTIONARY:
        return values
    used = pc.unique(values.indices).drop_null()
    if len(used) == len(values.dictionary):
        return values
    return pa.DictionaryArray.from_arrays(pc.index_in(values.indices, used), values.dictionary.take(used))


def decode_parquet(
    payload: bytes, uuid: str | None = None, columns: Collection[str] | None = None
) -> pa.Table:
    """Read what `encode_parquet` wrote; with a uuid, its records alone, and only what may hold them.

    With columns, only those of them that there are.

    Raises:
        pa.ArrowException, OSError, ValueError, KeyError: It was something else.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415

    file = pq.ParquetFile(pa.BufferReader(payload))
    metadata = file.schema_arrow.metadata or {}
    if int(metadata[b"schema_version"]) > SCHEMA_VERSION:
        raise ValueError("it is of a newer version than this reader")
    scales = orjson.loads(metadata[b"scales"])
    groups = range(file.metadata.num_row_groups) if uuid is None else _find_row_groups(file.metadata, uuid)
    wanted = None if columns is None else [n for n in file.schema_arrow.names if n in columns]
    tables = []
    for group in groups:
        raw = file.read_row_group(group, columns=wanted, use_threads=False).combine_chunks()
        first, rows = (0, raw.num_rows) if uuid is None else find_rows(raw, uuid)
        tables.append(_plain(raw, scales, first, rows))
    if not tables:
        return _plain(file.schema_arrow.empty_table().combine_chunks(), scales, 0, 0)
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def read_upload_ids(payload: bytes) -> pa.Array:
    """Read which uploads the records are of, and nothing else."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = pq.ParquetFile(pa.BufferReader(payload)).read(columns=["upload_id"], use_threads=False)
    return pc.unique(table.column("upload_id")).cast(pa.string())


def find_rows(table: pa.Table, uuid: str) -> tuple[int, int]:
    """Find the records of one GPU in sorted ones: where they begin, and how many they are."""
    uuids = chunk(table, "uuid")
    code = pc.index(uuids.dictionary, uuid).as_py()
    first = -1 if code < 0 else pc.index(uuids.indices, code).as_py()
    if first < 0:
        return 0, 0
    return first, pc.sum(pc.equal(uuids.indices, code)).as_py()


def _plain(raw: pa.Table, scales: dict[str, int], first: int, rows: int) -> pa.Table:
    """Turn some rows of one row group back into records."""
    columns = {}
    for name in raw.column_names:
        values = chunk(raw, name)
        # Steps are followed from the first one on; the rest is for the rows that are wanted.
        values = (from_steps(values) if name in scales else values).slice(first, rows)
        if name in scales:
            values = unscale(values, scales[name])
        elif name in LABELS or name in ("uuid", "upload_id"):
            values = values.cast(TEXT) if values.type != TEXT else values
        elif name == "timestamp":
            values = values.cast(TIMESTAMP)
        columns[name] = values
    return pa.table(columns)


def _find_row_groups(metadata: Any, uuid: str) -> list[int]:
    """Find the row groups that may hold records of one GPU; all of them where that is not written down."""
    names = [metadata.schema.column(i).name for i in range(metadata.num_columns)]
    place = names.index("uuid")
    found = []
    for group in range(metadata.num_row_groups):
        bounds = metadata.row_group(group).column(place).statistics
        if bounds is None or not bounds.has_min_max or bounds.min <= uuid <= bounds.max:
            found.append(group)
    return found
