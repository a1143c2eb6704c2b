"""Leases: slow work keeps its claims, hung work does not, and lost claims commit nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.collect.move import Mover
from shared.keys import message_id
from shared.queue import Lease, lease
from shared.queue.message import parse_claimer
from shared.store.read import Store
from tests.integration.records import publish, rows_of
from tests.waiting import wait_until

TIMEOUT_S = 2


class Slow(Mover):
    """A mover that stores when it is told to."""

    def __init__(self, *args):
        super().__init__(*args)
        self.storing = threading.Event()
        self.go_on = threading.Event()

    def _store(self, claims, tables):
        self.storing.set()
        assert self.go_on.wait(20)
        return super()._store(claims, tables)


@pytest.fixture
def slow(etcd, keys, queue):
    mover = Slow(etcd, keys, queue, TIMEOUT_S)
    yield mover
    mover.go_on.set()


def test_a_slow_collector_keeps_its_messages(slow, etcd, keys, queue):
    publish(queue, 3)
    other = Lease(etcd, 30)
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(slow.move, queue.list_ready())
        assert slow.storing.wait(10)
        began = time.monotonic()

        def held_for_long():
            assert queue.claim(queue.list_ready(), other) == []
            return time.monotonic() - began > 2.5 * TIMEOUT_S

        wait_until(held_for_long)
        slow.go_on.set()
        assert moving.result(10).messages == 3
    assert queue.depth_now() == 0
    assert len(rows_of(Store(etcd, keys))) == 6


def test_a_hung_collector_does_not(slow, etcd, keys, queue, monkeypatch):
    monkeypatch.setattr(lease, "MAX_EXTENSIONS", 1)
    publish(queue, 1)
    other = Lease(etcd, 30)
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(slow.move, queue.list_ready())
        assert slow.storing.wait(10)
        [claim] = wait_until(lambda: queue.claim(queue.list_ready(), other))
        assert claim.message.attempts == 1
        # It wakes up, and must not commit what is another's now.
        slow.go_on.set()
        done = moving.result(10)
    assert (done.messages, done.lost, done.transactions_lost) == (0, 1, 1)
    assert rows_of(Store(etcd, keys)) == []
    assert queue.claimed() == {claim.message.id}


def test_one_whose_lease_was_revoked_commits_nothing(slow, etcd, keys, queue):
    upload = publish(queue, 2)
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(slow.move, queue.list_ready())
        assert slow.storing.wait(10)
        etcd.lease_revoke(parse_claimer(etcd.get(keys.ready(message_id(upload, 0))).value))
        slow.go_on.set()
        done = moving.result(10)
    assert (done.messages, done.lost) == (0, 2)
    assert rows_of(Store(etcd, keys)) == []
    # The next one may, and so may the same mover.
    assert sum(slow.move([m]).messages for m in queue.list_ready()) == 2


def test_nothing_extends_what_is_not_held(etcd, queue):
    publish(queue, 1)
    idle = Lease(etcd, TIMEOUT_S)
    with idle.held():
        assert len(queue.claim(queue.list_ready(), idle)) == 1
    wait_until(lambda: not queue.claimed())
