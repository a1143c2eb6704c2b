"""Accounting by content: what can be read, record by record, against what was sent."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime

import pyarrow as pa
import urllib3

from shared.etcd import Etcd, Get, prefix_end
from shared.keys import Keys
from shared.queue import Queue
from shared.store.read import Store, read_again
from tests.faults.fleet import METRICS, values_of
from tests.waiting import wait_until

SETTLE_S = 60.0


def parse_ms(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def read_gpu(http, url, uuid):
    """The records of one GPU as (epoch ms, values); None where there is no such GPU.

    Raises:
        ValueError: Another answer than 200 or 404, or one that breaks off.
        AssertionError: An answer that contradicts itself.
    """
    answer = http.request("GET", f"{url}/api/v1/gpus/{uuid}/telemetry")
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise ValueError(f"{answer.status}: {answer.data[:300]!r}")
    body = json.loads(answer.data)
    if body["count"] != len(body["data"]) or any(r["uuid"] != uuid for r in body["data"]):
        raise AssertionError(f"{uuid}: an answer that does not add up: {answer.data[:300]!r}")
    return [(parse_ms(r["timestamp"]), tuple(r[name] for name in METRICS)) for r in body["data"]]


def read_all(url):
    """Every record there is, over HTTP, GPU by GPU: (uuid, epoch ms) -> the values of each such record."""
    http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(60))
    gpus = json.loads(http.request("GET", f"{url}/api/v1/gpus").data)["data"]
    found = defaultdict(list)
    for gpu in gpus:
        for ms, values in read_gpu(http, url, gpu["uuid"]):
            found[gpu["uuid"], ms].append(values)
    return found


def compare(found, wanted):
    """Every wanted record once, with the values that were sent, and nothing else; returns how many they were."""
    lost = [k for k in wanted if k not in found]
    extra = [k for k in found if k not in wanted]
    twice = [k for k, versions in found.items() if len(versions) > 1]
    changed = [k for k, versions in found.items() if versions[0] != values_of(*k)]
    said = {"lost": lost, "never sent": extra, "twice": twice, "with other values": changed}
    assert not any(said.values()), ", ".join(f"{len(v)} {k} ({v[:3]})" for k, v in said.items() if v)
    return len(found)


class Raw:
    """Queue and store as they stand in etcd."""

    def __init__(self, endpoints, prefix="/telemetry"):
        self.etcd = Etcd(endpoints)
        self.keys = Keys(prefix)
        self.queue = Queue(self.etcd, self.keys)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.etcd.close()

    def settle(self, collect_url):
        """Wait until everything that was published is stored; returns how many dead letters were replayed.

        A message whose collectors died five times in a row is a dead letter: it is kept, and collect can be
        told to take it again.
        """
        self.wait_empty()
        dead = self.dead()
        if dead:
            http = urllib3.PoolManager(retries=False)
            assert http.request("GET", f"{collect_url}/dead").status == 200, f"{dead} dead letters"
            assert http.request("POST", f"{collect_url}/dead/replay").status < 300
            wait_until(lambda: self.dead() == self.queue.depth_now() == 0, SETTLE_S, every_s=0.1)
        return dead

    def wait_empty(self):
        """Wait until nothing waits in the queue."""
        wait_until(lambda: self.queue.depth_now() == 0, SETTLE_S, every_s=0.1)

    def dead(self):
        """Count the dead letters."""
        prefix = self.keys.dead_prefix
        return self.etcd.read(Get(prefix, prefix_end(prefix), count_only=True)).count

    def rows(self):
        """Every row of every segment: (uuid, epoch ms, upload, number) -> the values of each such row."""
        return read_again(self._rows)

    def _rows(self):
        found = defaultdict(list)
        # A reader of its own: nothing is answered from what was cached earlier.
        store = Store(self.etcd, self.keys)
        for table in store.read(store.index().segments):
            columns = [
                table.column("uuid").to_pylist(),
                table.column("timestamp").cast(pa.int64()).to_pylist(),
            ]
            columns += [table.column(name).to_pylist() for name in ("upload_id", "number")]
            metrics = zip(*(table.column(name).to_pylist() for name in METRICS), strict=True)
            for *key, values in zip(*columns, metrics, strict=True):
                found[tuple(key)].append(values)
        return found

    def compare(self, wanted, *, repeats=False):
        """Compare every row of every segment with what was sent.

        With `repeats` a row may stand there again, unchanged: a publish whose answer was lost is repeated,
        and its message may have been moved in between (reads resolve that).
        """
        found = self.rows()
        keys = {key[:2] for key in found}
        assert keys == set(wanted), f"{len(set(wanted) - keys)} lost, {len(keys - set(wanted))} never sent"
        wrong = [k for k, versions in found.items() if any(v != values_of(*k[:2]) for v in versions)]
        assert not wrong, f"{len(wrong)} rows with other values than were sent: {wrong[:3]}"
        twice = [k for k, versions in found.items() if len(versions) > 1]
        assert repeats or not twice, f"{len(twice)} rows were stored twice: {twice[:3]}"
        return len(found), len(twice)
