"""kill -9 of collect between any two of its steps, and a restart: every record exactly once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shared.etcd import Get, prefix_end
from shared.keys import Keys, message_id, new_upload_id
from shared.messages import Origin
from shared.queue import Queue
from shared.store.read import Store
from tests.functions import ROOT
from tests.integration.records import encoded
from tests.waiting import wait_until

MESSAGES = 6
NOW_MS = 1_700_000_000_000


def run(at, when, endpoint, prefix):
    env = {
        **os.environ,
        "ETCD_ENDPOINTS": endpoint,
        "MESSAGE_QUEUE_PREFIX": prefix,
        "VISIBILITY_TIMEOUT": "2s",
        # One at a time, so that the steps come in one order.
        "COLLECT_WORKERS": "1",
    }
    command = [sys.executable, "-m", "tests.integration.dying_collect", str(at), when]
    return subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def publish(etcd, keys):
    upload = new_upload_id(NOW_MS)
    origin = Origin(upload_id=upload, received_ms=NOW_MS, cluster="default")
    for number in range(MESSAGES):
        Queue(etcd, keys).publish(message_id(upload, number), encoded(origin, number), rows=2)
    return upload


def stored(etcd, keys):
    """Every row of every segment, as it stands there: duplicates would show."""
    store = Store(etcd, keys)
    out = []
    for table in store.read(store.index().segments):
        out += zip(table.column("timestamp").to_pylist(), table.column("power_draw").to_pylist(), strict=True)
    return sorted(value for _, value in out)


def everything(etcd, prefix):
    return [i.key for i in etcd.read(Get(f"{prefix}/", prefix_end(f"{prefix}/"))).items]


def held(etcd, keys):
    prefixes = keys.claims_prefix, keys.collectors_prefix
    return [i.key for p in prefixes for i in etcd.read(Get(p, prefix_end(p))).items]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_any_two_steps(etcd, etcd_endpoint, prefix, when):
    wanted = [float(v) for v in range(MESSAGES * 2)]
    at, survived = 1, False
    crashed = []
    while not survived:
        own = f"{prefix}/{when}-{at}"
        keys = Keys(own)
        publish(etcd, keys)
        result = run(at, when, etcd_endpoint, own)
        survived = result.returncode == 0
        if not survived:
            assert result.returncode == -9, result.stderr
            # In the queue or in the store, never in both and never in neither.
            assert len(stored(etcd, keys)) + 2 * Queue(etcd, keys).depth_now() == len(wanted)
        crashed.append((own, keys))
        at += 1
    assert at > 5, "it did not die at all"
    for own, keys in crashed:
        # What the dead held ends with its leases.
        wait_until(lambda keys=keys: not held(etcd, keys), 10)
        if Queue(etcd, keys).depth_now():
            assert run(0, when, etcd_endpoint, own).returncode == 0
        assert stored(etcd, keys) == wanted
        left = [k.removeprefix(own) for k in everything(etcd, own)]
        assert [k for k in left if k.startswith("/queue/") and k != "/queue/bell"] == []
