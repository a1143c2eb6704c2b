"""Records for tests of queue and store."""

from __future__ import annotations

import pyarrow as pa

from shared.keys import message_id, new_upload_id
from shared.messages import Origin, encode_message
from shared.records import TIMESTAMP, concat, sort_resolve

#: When test uploads are received, unless they say otherwise.
NOW_MS = 1_700_000_000_000


def encoded(origin, number):
    """A message of two records that no other message has."""
    rows = [number * 2, number * 2 + 1]
    table = pa.table({
        "uuid": pa.array([f"{origin.upload_id}-{r % 3}" for r in rows]).dictionary_encode(),
        "timestamp": pa.array([r * 1000 for r in rows], TIMESTAMP),
        "power_draw": pa.array([float(r) for r in rows]),
    })  # fmt: skip
    return encode_message(table, origin, number)


def of_version_9(payload):
    """The same message as a collector of the future would write it."""
    with pa.ipc.open_stream(payload) as reader:
        table = reader.read_all()
    sink = pa.BufferOutputStream()
    schema = table.schema.with_metadata({**table.schema.metadata, b"schema_version": b"9"})
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(table.cast(schema))
    return sink.getvalue().to_pybytes()


def publish(queue, count, *, upload=None, start=0):
    """Publish messages of two records each; returns the upload."""
    upload = upload or new_upload_id(NOW_MS)
    origin = Origin(upload_id=upload, received_ms=NOW_MS, cluster="default")
    for number in range(start, start + count):
        queue.publish(message_id(upload, number), encoded(origin, number), rows=2)
    return upload


def rows_of(store):
    """Everything in the store, resolved, as (uuid, epoch ms, value)."""
    tables = list(store.read(store.index().segments))
    if not tables:
        return []
    table = sort_resolve(concat(tables))
    return [
        (u, t.timestamp() * 1000, v)
        for u, t, v in zip(
            *(table.column(n).to_pylist() for n in ("uuid", "timestamp", "power_draw")), strict=True
        )
    ]
