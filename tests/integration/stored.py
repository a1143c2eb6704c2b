"""Queue and store without the functions around them, for tests."""

from __future__ import annotations

import pyarrow as pa

from functions.collect.drain import Drain
from functions.collect.move import Mover
from shared.etcd import Get, Put, prefix_end
from shared.keys import message_id, new_upload_id
from shared.messages import Origin, encode_message
from shared.records import TIMESTAMP, concat, sort_resolve
from shared.store.compaction import Compactor
from shared.store.gpus import Gpus
from shared.store.read import Store
from shared.undo import Undo

NOW_MS = 1_705_320_000_000  # 2024-01-15T12:00:00Z
DAY_MS = 86_400_000


def rows(uuids, seconds, value, **labels):
    cells = [(u, s) for s in seconds for u in uuids]
    return pa.table({
        "uuid": pa.array([u for u, _ in cells]).dictionary_encode(),
        "timestamp": pa.array([s * 1000 for _, s in cells], TIMESTAMP),
        "power_draw": pa.array([value(u, s) for u, s in cells], pa.float64()),
        **{n: pa.array([v] * len(cells)).dictionary_encode() for n, v in labels.items()},
    })  # fmt: skip


class Pipeline:
    """Queue and store without the functions around them."""

    def __init__(self, etcd, keys, queue):
        self.etcd, self.keys, self.queue = etcd, keys, queue
        self.store = Store(etcd, keys)
        self.gpus = Gpus(self.store)
        self.compactor = Compactor(etcd, keys, Store(etcd, keys, 0), lambda: NOW_MS)
        self.drain = Drain(queue, lambda: Mover(etcd, keys, queue, 5), 1)
        self.undo = Undo(etcd, keys, Store(etcd, keys, 0), lambda: NOW_MS)

    def upload(self, *tables, at_ms=NOW_MS, move=True):
        upload = new_upload_id(at_ms)
        origin = Origin(upload_id=upload, received_ms=at_ms, cluster="default")
        for number, table in enumerate(tables):
            payload = encode_message(table, origin, number)
            also = (
                [Put(self.keys.upload(upload), b'{"received_at": %d}' % at_ms)]
                if number + 1 == len(tables)
                else []
            )
            self.queue.publish(message_id(upload, number), payload, rows=table.num_rows, also=also)
            if move:
                self.drain.take_all(10)
        return upload

    def raw(self):
        tables = list(self.store.read(self.store.index().segments))
        return concat(tables) if tables else None

    def records(self):
        raw = self.raw()
        if raw is None:
            return []
        table = sort_resolve(raw)
        return sorted(table.select(sorted({"uuid", "timestamp", "power_draw"})).to_pylist(), key=str)

    def levels(self):
        return sorted(s.level for s in self.store.index().segments)

    def keys_below(self, prefix):
        return [i.key.removeprefix(prefix) for i in self.etcd.read(Get(prefix, prefix_end(prefix))).items]

    def check_keys(self):
        """Payloads and inventories are those of the index, and nothing is pending."""
        segments = self.store.index().segments
        assert set(self.keys_below(self.keys.segment_prefix)) == {s.id for s in segments}
        assert set(self.keys_below(self.keys.inventory_prefix)) == {s.id for s in segments if s.level}
        assert self.keys_below(self.keys.pending_prefix) == []
