"""Segments: sorted records as bytes, and what the index says of them; no I/O here.

Few records are an Arrow stream (shared/ipc.py): they are read and written in a tenth of a millisecond, and
soon folded. Many are Parquet (parquet.py): a third of the bytes. `decode` takes either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import Corrupt
from shared.ipc import decode_table, encode_table
from shared.keys import IndexKey, Keys, new_segment_id
from shared.records import chunk
from shared.store.parquet import MAGIC, decode_parquet, encode_parquet, read_upload_ids, trimmed

#: Bytes that the segments of one transaction may have together; etcd refuses a request over 1.5 MiB.
MAX_SEGMENT_BYTES = 1_400_000

#: So few records are an Arrow stream.
_FEW_ROWS = 2000
#: No segment holds more, decoded.
_MOST_DECODED_BYTES = 256 * 1024 * 1024


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
    #: Of the payload and, from level 1 on, the inventory.
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


def encode(table: pa.Table) -> bytes:
    """Write sorted records as Parquet, or as an Arrow stream where they are few."""
    return encode_table(table) if table.num_rows <= _FEW_ROWS else encode_parquet(table)


def encode_within(table: pa.Table, limit: int) -> bytes | None:
    """Write sorted records in a form that is within a limit; None where none is."""
    for form in (encode, encode_table):
        payload = form(table)
        if len(payload) <= limit:
            return payload
    return None


def decode(payload: bytes, uuid: str | None = None, columns: Collection[str] | None = None) -> pa.Table:
    """Read a segment: one chunk per column, metrics as doubles, sorted as written.

    With a uuid, at least its records are read, and of Parquet no others; there may be none. With columns, at
    least those of them that there are, and of Parquet no others.

    Raises:
        Corrupt: Not a segment, or one of a newer version.
    """
    try:
        if payload[:4] == MAGIC:
            table = decode_parquet(payload, uuid, columns)
        else:
            table = decode_table(payload, _MOST_DECODED_BYTES).unify_dictionaries().combine_chunks()
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
    try:
        if payload[:4] == MAGIC:
            ids = read_upload_ids(payload)
        else:
            ids = pc.unique(chunk(decode(payload), "upload_id")).cast(pa.string())
    except (pa.ArrowException, OSError, KeyError) as exc:
        raise Corrupt(f"a segment cannot be decoded: {exc}") from exc
    return bool(pc.any(pc.equal(ids, upload_id)).as_py())


def trimmed_table(table: pa.Table) -> pa.Table:
    """Copy a part of a table, so that it keeps nothing of the whole in memory."""
    copy = table.take(pa.array(range(table.num_rows), pa.int64())).combine_chunks()
    for place, name in enumerate(copy.column_names):
        if pa.types.is_dictionary(copy.schema.field(name).type):
            copy = copy.set_column(place, name, trimmed(chunk(copy, name)))
    return copy
