"""Messages: a batch of records on its way through the queue, as one Arrow IPC stream.

What is the same for every row (upload, receive time, number, cluster, trace) stands once in the schema's
metadata and becomes columns when the message is decoded. Only what is imported has columns for that already:
each row keeps the version it had where it was exported, and the metadata say `versions: rows`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from shared.clock import MAX_TIME_MS
from shared.errors import Corrupt, PipelineError
from shared.ipc import NewerForm, decode_table, encode_table
from shared.keys import is_upload_id
from shared.records import KEY, TEXT, VERSION, constant_text, with_version

#: Written into each message. A message newer than its reader is released, never buried: during a rolling
#: upgrade a newer collector will take it.
SCHEMA_VERSION = 2
#: What a message is written as that rows with versions of their own do not need: any reader takes it.
_FIRST_VERSION = 1
#: What one message may hold, decoded: a million constant rows encode to 17 KB, and somebody must hold them.
MAX_ROWS = 64 * 1024
MAX_DECODED_BYTES = 16 * 1024 * 1024


class NewerMessage(PipelineError):
    """The message is of a newer version than this reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What all messages of one upload share."""

    upload_id: str
    #: When the upload began, epoch ms.
    received_ms: int
    cluster: str
    #: W3C trace context of the upload's request, or empty.
    traceparent: str = ""


def encode_message(table: pa.Table, origin: Origin, number: int) -> bytes:
    """Write records (uuid, timestamp, labels, metrics) as one message.

    Rows that have the columns of a version keep it; the others are of the message's.
    """
    versioned = set(VERSION) <= set(table.column_names)
    named = table.replace_schema_metadata({
        "schema_version": str(SCHEMA_VERSION if versioned else _FIRST_VERSION),
        "versions": "rows" if versioned else "message",
        "upload_id": origin.upload_id,
        "received_at": str(origin.received_ms),
        "number": str(number),
        "cluster": origin.cluster,
        "traceparent": origin.traceparent,
    })  # fmt: skip
    return encode_table(named)


def iter_messages(table: pa.Table, limit: int) -> Iterator[pa.Table]:
    """Cut records into tables that each make one message, by rows and decoded bytes."""
    rows = table.num_rows
    size = max(table.nbytes, 1)
    step = max(min(MAX_ROWS, rows * min(MAX_DECODED_BYTES, limit) // size), 1)
    for start in range(0, rows, step):
        yield table.slice(start, step)


def decode_message(payload: bytes) -> pa.Table:
    """Read a message as records with their version columns, in the order of the file.

    Raises:
        NewerMessage: Written by a newer version; leave it to a newer reader.
        Corrupt: Not a message, or more than a message may hold.
    """
    try:
        table = decode_table(payload, 2 * MAX_DECODED_BYTES)
        metadata = table.schema.metadata or {}
        if int(metadata[b"schema_version"]) > SCHEMA_VERSION:
            raise NewerMessage
        if table.num_rows > MAX_ROWS:
            raise Corrupt("a message holds more than a message may")
        origin = {name: metadata[name.encode()].decode() for name in ("upload_id", "received_at", "number")}
        cluster = metadata[b"cluster"].decode()
        versioned = metadata.get(b"versions") == b"rows"
        numbers = int(origin["received_at"]), int(origin["number"])
    except NewerForm as exc:
        raise NewerMessage from exc
    except (ValueError, KeyError) as exc:
        raise Corrupt(f"a message cannot be decoded: {exc}") from exc
    names = table.column_names
    if table.num_rows == 0 or any(name not in names for name in KEY):
        raise Corrupt("a message without records")
    if len(set(names)) != len(names) or (not versioned and set(names) & set(VERSION)):
        raise Corrupt("a message with a column twice")
    table = _with_cluster(table.replace_schema_metadata(None), cluster)
    if versioned:
        return _with_versions_last(table)
    return with_version(table, received_ms=numbers[0], upload_id=origin["upload_id"], number=numbers[1])


def find_bad_version(table: pa.Table) -> tuple[str, str] | None:
    """Find what is wrong with the versions that rows bring along: a column, and what would be right."""
    expected = {"received_at": pa.int64(), "upload_id": TEXT, "number": pa.int32()}
    for name, type_ in expected.items():
        if name not in table.column_names or table.schema.field(name).type != type_:
            return name, f"expected a column of {type_}"
        if table.column(name).null_count:
            return name, "expected a value in every row"
    if not _within(table, "received_at", MAX_TIME_MS):
        return "received_at", "expected epoch milliseconds from 1970 to 2199"
    if not _within(table, "number", 2**31):
        return "number", "expected a number of at least 0"
    for part in table.column("upload_id").chunks:
        for text in pc.unique(part).to_pylist():
            if text is None or not is_upload_id(text):
                return "upload_id", f"{(text or '')[:60]!r} is not an upload's id"
    return None


def _within(table: pa.Table, name: str, end: int) -> bool:
    bounds = pc.min_max(table.column(name))
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    return low is None or (low >= 0 and high < end)


def _with_versions_last(table: pa.Table) -> pa.Table:
    """Check the versions that rows brought along, and put their columns where `with_version` does."""
    wrong = find_bad_version(table)
    if wrong is not None:
        raise Corrupt(f"a message whose column {wrong[0]} is wrong: {wrong[1]}")
    return table.select([n for n in table.column_names if n not in VERSION] + list(VERSION))


def _with_cluster(table: pa.Table, cluster: str) -> pa.Table:
    """Say of every row which cluster it is of: the file's own word, else the upload's."""
    constant = constant_text(cluster, table.num_rows)
    if "cluster" not in table.column_names:
        return table.append_column("cluster", constant)
    own = table.column("cluster").combine_chunks().cast(pa.string())
    filled = pc.coalesce(own, constant.cast(pa.string())).dictionary_encode().cast(TEXT)
    return table.set_column(table.column_names.index("cluster"), "cluster", filled)
