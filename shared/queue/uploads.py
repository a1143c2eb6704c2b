"""What the queue holds of one upload: how much it is, and its deletion when the upload is undone."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from shared.etcd import Compare, Delete, Etcd, Get, KeyValue, prefix_end
from shared.keys import Keys

_PAGE = 1000


def size_of_upload(etcd: Etcd, keys: Keys, upload_id: str) -> tuple[int, int]:
    """Count the messages of an upload, waiting or set aside, and their rows."""
    rows = [orjson.loads(item.value)["rows"] for _, item in _iter_items(etcd, keys, upload_id)]
    return len(rows), sum(rows)


def drop_upload(etcd: Etcd, keys: Keys, upload_id: str) -> tuple[int, int]:
    """Delete the messages of an upload, waiting, claimed or set aside; returns how many, and their rows.

    A collector that holds one loses it: its move fails. One that moved it before did move it.
    """
    messages = rows = 0
    for message, item in _iter_items(etcd, keys, upload_id):
        gone = [Delete(key) for key in (item.key, keys.payload(message), keys.claim(message))]
        if etcd.txn([Compare(item.key, "create", "=", item.create_revision)], gone).succeeded:
            messages, rows = messages + 1, rows + orjson.loads(item.value)["rows"]
    return messages, rows


def _iter_items(etcd: Etcd, keys: Keys, upload_id: str) -> Iterator[tuple[str, KeyValue]]:
    # The dead letters last: one that is replayed meanwhile is refused (DeadLetters), one buried is found.
    for prefix in (keys.ready_of(upload_id), keys.dead_of(upload_id)):
        start = prefix
        while items := etcd.read(Get(start, prefix_end(prefix), _PAGE)).items:
            for item in items:
                yield f"{upload_id}-{item.key.removeprefix(prefix)}", item
            start = items[-1].key + "\0"
