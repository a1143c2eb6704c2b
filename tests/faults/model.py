"""What the queue and the store should hold, kept beside them, and what they do hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from shared.etcd import Etcd, Get, prefix_end
from shared.keys import Keys, message_id, new_upload_id, parse_message_id
from shared.messages import Origin, decode_message, encode_message
from shared.queue import Queue
from shared.records import TIMESTAMP
from shared.store.read import Store

NOW_MS = 1_700_000_000_000
DAY_MS = 24 * 3600 * 1000
UNREADABLE = b"no message"
METRICS = ("power_draw", "temperature")


@dataclass(frozen=True)
class Row:
    """One row of one message."""

    uuid: str
    ms: int
    values: tuple[float | None, ...]
    received_ms: int
    upload: str
    number: int

    @property
    def key(self):
        return self.uuid, self.ms

    @property
    def version(self):
        return self.received_ms, self.upload, self.number


@dataclass
class Message:
    """One message that was published; one without rows cannot be decoded."""

    id: str
    payload: bytes
    rows: tuple[Row, ...] = ()

    @property
    def upload(self):
        return parse_message_id(self.id)[0]


@dataclass
class Actual:
    """What etcd holds, read at rest."""

    queued: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    #: Every row that is in the queue, set aside or stored.
    rows: list[Row] = field(default_factory=list)


class Uploads:
    """Makes messages, each with values that no other has."""

    def __init__(self):
        self._count = 0

    def message(self, *, keys, day):
        """Make the one message of an upload from [(gpu, second, which metrics)]; without any it is unreadable."""
        self._count += 1
        received_ms, number = NOW_MS + day * DAY_MS + self._count, 0
        upload = new_upload_id(received_ms)
        name = message_id(upload, number)
        if not keys:
            return Message(name, UNREADABLE)
        rows = tuple(
            Row(
                f"GPU-{gpu}",
                NOW_MS + second * 1000,
                tuple(float(self._count * 100 + i) if m in metrics else None for m in METRICS),
                received_ms,
                upload,
                number,
            )
            for i, (gpu, second, metrics) in enumerate(keys)
        )
        table = pa.table({
            "uuid": pa.array([r.uuid for r in rows]).dictionary_encode(),
            "timestamp": pa.array([r.ms for r in rows], TIMESTAMP),
            **{m: pa.array([r.values[i] for r in rows], pa.float64()) for i, m in enumerate(METRICS)},
        })  # fmt: skip
        origin = Origin(upload_id=upload, received_ms=received_ms, cluster="default")
        return Message(name, encode_message(table, origin, number), rows)


def rows_of(table):
    """The rows of a decoded message or segment."""
    names = ["uuid", "timestamp", "received_at", "upload_id", "number"]
    columns = [table.column(n).to_pylist() for n in names]
    columns[1] = table.column("timestamp").cast(pa.int64()).to_pylist()
    nothing = [None] * table.num_rows
    present = table.column_names
    metrics = [table.column(m).to_pylist() if m in present else nothing for m in METRICS]
    values = zip(*metrics, strict=True)
    return [Row(u, ms, v, r, up, n) for u, ms, r, up, n, v in zip(*columns, values, strict=True)]


def read_actual(etcd: Etcd, keys: Keys) -> Actual:
    """Read all there is, raw."""
    queue, out = Queue(etcd, keys), Actual()
    out.queued = {m.id for m in queue.list_ready()}
    out.claimed = queue.claimed()
    prefix = keys.dead_prefix
    out.dead = {i.key.removeprefix(prefix) for i in etcd.read(Get(prefix, prefix_end(prefix))).items}
    for name in out.queued | out.dead:
        payload = etcd.get(keys.payload(name)).value
        if payload != UNREADABLE:
            out.rows += rows_of(decode_message(payload))
    store = Store(etcd, keys)
    for table in store.read(store.index().segments):
        out.rows += rows_of(table)
    return out


def resolve(rows):
    """What a reader makes of rows: of each key, field by field, the newest version that has a value."""
    out = {}
    for row in sorted(rows, key=lambda r: r.version):
        known = out.get(row.key, (None,) * len(METRICS))
        out[row.key] = tuple(old if new is None else new for old, new in zip(known, row.values, strict=True))
    return out


def doubles(rows):
    """Rows that are there more than once, under one version."""
    return [k for k, n in Counter((r.key, r.version) for r in rows).items() if n > 1]


def uncovered(rows):
    """Rows of which a value is the newest one: nothing may be done without them."""
    newest = {}
    for row in rows:
        for i, value in enumerate(row.values):
            if value is not None:
                at = row.key, i
                newest[at] = max(newest.get(at, row), row, key=lambda r: r.version)
    return set(newest.values())
