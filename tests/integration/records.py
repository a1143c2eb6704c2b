"""Records for tests of queue and store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from shared.etcd import Put
from shared.ipc import decode_table, encode_table
from shared.keys import message_id, new_upload_id
from shared.messages import MAX_DECODED_BYTES, Origin, encode_message
from shared.queue import ReadyMessage
from shared.queue.message import build_ready
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
    table = decode_table(payload, MAX_DECODED_BYTES)
    return encode_table(table.replace_schema_metadata({**table.schema.metadata, b"schema_version": b"9"}))


def publish(queue, count, *, upload=None, start=0):
    """Publish messages of two records each; returns the upload."""
    upload = upload or new_upload_id(NOW_MS)
    origin = Origin(upload_id=upload, received_ms=NOW_MS, cluster="default")
    for number in range(start, start + count):
        queue.publish(message_id(upload, number), encoded(origin, number), rows=2)
    return upload


def publish_many(etcd, keys, count, *, of_upload=1):
    """Put many small messages into the queue, without the bell and many at a time."""
    payloads = [
        (message_id(origin.upload_id, number), encoded(origin, number))
        for origin in (
            Origin(upload_id=new_upload_id(NOW_MS + i), received_ms=NOW_MS + i, cluster="default")
            for i in range(count // of_upload)
        )
        for number in range(of_upload)
    ]
    put_many(etcd, keys, payloads)


def put_many(etcd, keys, messages):
    """Put (id, payload) into the queue as messages of two rows, forty at a time."""

    def put(some):
        operations = []
        for id_, payload in some:
            new = ReadyMessage(id=id_, bytes=len(payload), rows=2, attempts=0, revision=0)
            operations += [
                Put(keys.ready(id_), build_ready(new, attempts=0)),
                Put(keys.payload(id_), payload),
            ]
        etcd.txn([], operations)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, (messages[i : i + 40] for i in range(0, len(messages), 40))))


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
