"""Segments: sorted records as Parquet bytes, in and out; no I/O here.

Integers are delta-packed; a metric whose values are all decimals of up to three places is stored as scaled
integers, but only where dividing gives back the very same doubles (docs/adr/0002 has the measurements). A
message that would be too large as Parquet is kept as an Arrow IPC stream: `decode` takes either.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import Corrupt
from shared.keys import IndexKey, Keys, new_segment_id
from shared.records import KEY, LABELS, TEXT, TIMESTAMP, VERSION, chunk

#: Bytes that the segments of one transaction may have together; etcd refuses a request over 1.5 MiB.
MAX_SEGMENT_BYTES = 1_400_000
#: Written into each segment; a reader refuses a newer one.
SCHEMA_VERSION = 1

_SCALES = (1, 10, 100, 1000)
_INT32_MAX = 2**31 - 1
#: So few records are no larger as Arrow, and soon folded.
_FEW_ROWS = 400
#: A dictionary that is not worth looking at for words that no row uses.
_SMALL_DICTIONARY = 16
#: What a query of one GPU decodes of a large segment: a fifth of the time of all of it, for 2 % more bytes.
ROW_GROUP_ROWS = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """What the index says of a segment, so that a query need not open it."""

    id: str
    day: str
    level: int
    #: Epoch ms of the earliest and the latest record inside, both included.
    min_ms: int
    max_ms: int
    min_uuid: str
    max_uuid: str
    min_upload: str
    max_upload: str
    rows: int
    size_bytes: int
    #: Distinct GPUs inside; 0 where an entry of an older version does not say.
    gpus: int = 0
    #: The create_revision of the index entry as it was read: what proves that it still stands.
    revision: int = dataclasses.field(default=0, compare=False)

    def index_key(self, keys: Keys) -> str:
        """Build the key under which the index has it."""
        return keys.index(
            IndexKey(day=self.day, level=self.level, min_ms=self.min_ms, max_ms=self.max_ms, segment=self.id)
        )

    def index_value(self) -> bytes:
        """Build what stands under that key."""
        return orjson.dumps({
            "min_uuid": self.min_uuid,
            "max_uuid": self.max_uuid,
            "min_upload": self.min_upload,
            "max_upload": self.max_upload,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "gpus": self.gpus,
        })  # fmt: skip


def parse_index_entry(keys: Keys, key: str, value: bytes, revision: int = 0) -> SegmentInfo:
    """Read an entry of the index.

    Raises:
        Corrupt: Not such an entry.
    """
    where = keys.parse_index(key)
    try:
        return SegmentInfo(
            id=where.segment,
            day=where.day,
            level=where.level,
            min_ms=where.min_ms,
            max_ms=where.max_ms,
            revision=revision,
            **orjson.loads(value),
        )
    except (TypeError, ValueError) as exc:
        raise Corrupt(f"not an index entry: {key!r}") from exc


def describe(table: pa.Table, *, day: str, level: int, size: int) -> SegmentInfo:
    """Describe sorted records as a new segment of `size` bytes."""
    times = pc.min_max(chunk(table, "timestamp").cast(pa.int64()))
    uploads = pc.min_max(pc.unique(chunk(table, "upload_id")).cast(pa.string()))
    uuids = chunk(table, "uuid")
    return SegmentInfo(
        id=new_segment_id(),
        day=day,
        level=level,
        min_ms=times["min"].as_py(),
        max_ms=times["max"].as_py(),
        min_uuid=uuids[0].as_py(),
        max_uuid=uuids[-1].as_py(),
        min_upload=uploads["min"].as_py(),
        max_upload=uploads["max"].as_py(),
        rows=table.num_rows,
        size_bytes=size,
        gpus=pc.count_distinct(uuids.indices).as_py(),
    )


def _scaled(values: pa.Array) -> tuple[pa.Array, int] | None:
    """Turn doubles into (integers, scale) where integer / scale gives back every one of them exactly."""
    bounds = pc.min_max(pc.abs(values))
    if not bounds["max"].is_valid:
        return values.cast(pa.int32()), 1
    largest = bounds["max"].as_py()
    for scale in _SCALES:
        if not largest * scale < _INT32_MAX:  # also where it is not finite
            return None
        rounded = pc.round(pc.multiply(values, float(scale)))
        back = pc.divide(rounded, float(scale))
        if pc.all(pc.equal(back, values)).as_py():
            return rounded.cast(pa.int32()), scale
    return None


def encode(table: pa.Table) -> bytes:
    """Write sorted records as Parquet; columns without any value are left out."""
    # Imported where it is used: a cold upload never needs it.
    import pyarrow.parquet as pq  # noqa: PLC0415

    columns: dict[str, Any] = {}
    scales: dict[str, int] = {}
    for name in table.column_names:
        values = chunk(table, name)
        if values.null_count == len(values) and name not in KEY + VERSION:
            continue
        if pa.types.is_floating(values.type):
            scaled = _scaled(values)
            if scaled is not None:
                values, scales[name] = scaled
        elif pa.types.is_dictionary(values.type):
            values = trimmed(values)
        columns[name] = values
    out = pa.table(columns).replace_schema_metadata(
        {"schema_version": str(SCHEMA_VERSION), "scales": orjson.dumps(scales)}
    )
    integers = {n: "DELTA_BINARY_PACKED" for n in columns if _is_packed(out.schema.field(n).type)}
    texts = [n for n in columns if pa.types.is_dictionary(out.schema.field(n).type)]
    sink = io.BytesIO()
    pq.write_table(
        out,
        sink,
        compression="zstd",
        compression_level=3,
        use_dictionary=texts,
        column_encoding=integers,
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


def trimmed_table(table: pa.Table) -> pa.Table:
    """Copy a part of a table, so that it keeps nothing of the whole in memory."""
    copy = table.take(pa.array(range(table.num_rows), pa.int64())).combine_chunks()
    for place, name in enumerate(copy.column_names):
        if pa.types.is_dictionary(copy.schema.field(name).type):
            copy = copy.set_column(place, name, trimmed(chunk(copy, name)))
    return copy


def _is_packed(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_timestamp(type_))


def encode_within(table: pa.Table, limit: int) -> bytes | None:
    """Write records as Parquet, and few of them as Arrow, or in whatever form is within the limit.

    None where neither is.
    """
    forms = (encode_arrow, encode) if table.num_rows <= _FEW_ROWS else (encode, encode_arrow)
    for form in forms:
        payload = form(table)
        if len(payload) <= limit:
            return payload
    return None


def encode_arrow(table: pa.Table) -> bytes:
    """Write sorted records as an Arrow stream: a third of the time of Parquet where they are few."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def decode(payload: bytes, uuid: str | None = None) -> pa.Table:
    """Read a segment: one chunk per column, metrics as doubles, sorted as written.

    With a uuid, at least its records are read, and where that is less work little else; there may be none.

    Raises:
        Corrupt: Not a segment, or one of a newer version.
    """
    try:
        table = _decode_parquet(payload, uuid) if payload[:4] == b"PAR1" else _decode_arrow(payload)
    except (pa.ArrowException, OSError, ValueError, KeyError) as exc:
        raise Corrupt(f"a segment cannot be decoded: {exc}") from exc
    if table.num_rows == 0 and uuid is None:
        raise Corrupt("a segment without records")
    return table


def holds_upload(payload: bytes, upload_id: str) -> bool:
    """Tell whether a segment has rows of an upload, at a tenth of the time of `decode`.

    Raises:
        Corrupt: Not a segment.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        if payload[:4] == b"PAR1":
            ids = pq.read_table(pa.BufferReader(payload), columns=["upload_id"], use_threads=False)
        else:
            ids = _decode_arrow(payload)
    except (pa.ArrowException, OSError, KeyError) as exc:
        raise Corrupt(f"a segment cannot be decoded: {exc}") from exc
    values = pc.unique(ids.column("upload_id")).cast(pa.string())
    return bool(pc.any(pc.equal(values, upload_id)).as_py())


def _decode_arrow(payload: bytes) -> pa.Table:
    with pa.ipc.open_stream(payload) as reader:
        return reader.read_all().unify_dictionaries().combine_chunks()


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


def _decode_parquet(payload: bytes, uuid: str | None) -> pa.Table:
    import pyarrow.parquet as pq  # noqa: PLC0415

    file = pq.ParquetFile(pa.BufferReader(payload))
    if uuid is None:
        raw = file.read(use_threads=False)
    else:
        raw = file.read_row_groups(_find_row_groups(file.metadata, uuid), use_threads=False)
    metadata = raw.schema.metadata or {}
    if int(metadata[b"schema_version"]) > SCHEMA_VERSION:
        raise ValueError("it is of a newer version than this reader")
    raw = raw.unify_dictionaries().combine_chunks()
    scales = orjson.loads(metadata[b"scales"])
    columns = {}
    for name in raw.column_names:
        values = chunk(raw, name)
        if name in scales:
            values = values.cast(pa.float64())
            if scales[name] != 1:
                values = pc.divide(values, float(scales[name]))
        elif name in LABELS or name in ("uuid", "upload_id"):
            values = values.cast(TEXT) if values.type != TEXT else values
        elif name == "timestamp":
            values = values.cast(TIMESTAMP)
        columns[name] = values
    return pa.table(columns)
