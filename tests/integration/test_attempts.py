"""Attempts: what counts as one, and what becomes of a message that has had too many."""

from __future__ import annotations

import contextlib

import pytest

from functions.collect import move
from functions.collect.move import Mover, plan_moves
from shared.errors import Transient
from shared.etcd import Delete, Put
from shared.keys import message_id
from shared.queue import Lease, Queue
from shared.store.read import Store
from tests.integration.faulty import FaultyEtcd
from tests.integration.records import NOW_MS, of_version_9, publish, rows_of
from tests.waiting import wait_until

LIMIT = 3


@pytest.fixture
def faulty(etcd_endpoint):
    client = FaultyEtcd([etcd_endpoint])
    yield client
    client.away.clear()
    client.close()


@pytest.fixture
def mover(etcd, keys, queue):
    return Mover(etcd, keys, queue, 30, LIMIT)


def move_all(mover, queue):
    """One go at every message that waits, as a tick does."""
    done = move.Done()
    for group in plan_moves(queue.list_ready()):
        with contextlib.suppress(RuntimeError):
            done.add(mover.move(group))
    return done


def test_what_cannot_be_decoded_is_buried_at_once_whole_and_the_others_proceed(queue, mover, etcd, keys):
    upload = publish(queue, 2)
    bad = message_id(upload, 9)
    queue.publish(bad, b"garbage", rows=1)
    done = move_all(mover, queue)
    assert (done.messages, done.buried) == (2, 1)
    assert queue.depth(NOW_MS).dead == 1
    assert queue.count_of_upload(upload) == (0, 1)
    assert etcd.get(keys.payload(bad)).value == b"garbage"


def test_a_message_without_its_payload_is_buried(queue, mover, etcd, keys):
    upload = publish(queue, 1)
    etcd.txn([], [Delete(keys.payload(message_id(upload, 0)))])
    assert move_all(mover, queue).buried == 1


def test_a_message_has_as_many_attempts_as_is_set(queue, mover, lease):
    publish(queue, 1)
    for _ in range(LIMIT):
        queue.release(queue.claim(queue.list_ready(), lease))
    assert move_all(mover, queue).buried == 1
    publish(queue, 1)
    for _ in range(LIMIT - 1):
        queue.release(queue.claim(queue.list_ready(), lease))
    assert move_all(mover, queue).messages == 1


class UndecodableOnce(Mover):
    """A mover that dies of decoding, as of a defect in a library."""

    def _decode(self, claim, done):
        if claim.message.attempts < LIMIT:
            raise RuntimeError("a defect")
        return super()._decode(claim, done)


def test_a_message_that_the_decoding_dies_of_is_buried_undecoded(etcd, keys, queue):
    upload = publish(queue, 1)
    etcd.txn([], [Put(keys.payload(message_id(upload, 0)), b"")])
    mover = UndecodableOnce(etcd, keys, queue, 30, LIMIT)
    for _ in range(LIMIT + 1):
        move_all(mover, queue)
    assert queue.count_of_upload(upload) == (0, 1)
    assert b"claimed 3 times" in etcd.get(keys.dead(message_id(upload, 0))).value


def test_a_message_of_a_newer_version_waits_for_a_newer_collector(queue, mover, etcd, keys):
    upload = publish(queue, 1)
    newer = of_version_9(etcd.get(keys.payload(message_id(upload, 0))).value)
    etcd.txn([], [Put(keys.payload(message_id(upload, 0)), newer)])
    for _ in range(LIMIT + 2):
        assert move_all(mover, queue).released == 1
    assert queue.list_ready()[0].attempts == 0
    assert queue.claimed() == set()


class Exploding(Mover):
    """A mover with a defect: it cannot store message 0."""

    def _store(self, claims, tables):
        if any(c.message.id.endswith("-000000") for c in claims):
            raise RuntimeError("a defect")
        return super()._store(claims, tables)


def test_a_defect_keeps_no_claim_alive_and_buries_no_neighbour(etcd, keys, queue):
    upload = publish(queue, 4)
    mover = Exploding(etcd, keys, queue, 30, LIMIT)
    for _ in range(2 * LIMIT):
        for group in plan_moves(queue.list_ready()):
            with contextlib.suppress(RuntimeError):
                mover.move(group)
            assert queue.claimed() == set()
    assert queue.count_of_upload(upload) == (0, 1)
    assert len(rows_of(Store(etcd, keys))) == 6


class Leaving(Mover):
    """A mover whose etcd goes away when it is about to store."""

    def _store(self, claims, tables):
        self._etcd.away.set()
        return super()._store(claims, tables)


@pytest.mark.parametrize("timeout_s", [2, 30], ids=["after its claims have ended", "while they live"])
def test_an_attempt_that_failed_because_etcd_was_away_does_not_count(
    faulty, etcd, keys, queue, monkeypatch, timeout_s
):
    monkeypatch.setattr(move, "_MOVE_RETRY_S", 0.1)
    publish(queue, 3)
    own = Queue(faulty, keys)
    with pytest.raises(Transient):
        Leaving(faulty, keys, own, timeout_s, LIMIT).move(queue.list_ready())
    assert [m.attempts for m in queue.list_ready()] == [1, 1, 1]
    assert len(queue.claimed()) == 3
    if timeout_s == 2:
        wait_until(lambda: not queue.claimed())
    faulty.away.clear()
    wait_until(lambda: not len(own.returns))
    assert [m.attempts for m in queue.list_ready()] == [0, 0, 0]
    assert queue.claimed() == set()
    assert Mover(etcd, keys, queue, 30, LIMIT).move(queue.list_ready()).messages == 3


def test_a_message_that_others_claimed_meanwhile_is_left_to_them(faulty, etcd, keys, queue, monkeypatch):
    monkeypatch.setattr(move, "_MOVE_RETRY_S", 0.1)
    publish(queue, 1)
    own = Queue(faulty, keys)
    with pytest.raises(Transient):
        Leaving(faulty, keys, own, 2, LIMIT).move(queue.list_ready())
    wait_until(lambda: not queue.claimed())
    [claim] = queue.claim(queue.list_ready(), Lease(etcd, 30))
    faulty.away.clear()
    wait_until(lambda: not len(own.returns))
    assert queue.claimed() == {claim.message.id}
    assert queue.list_ready()[0].attempts == 2
