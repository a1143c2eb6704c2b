"""The queue and the move, on a real etcd."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.collect.drain import Drain
from functions.collect.move import Mover
from shared.errors import Conflict, Transient
from shared.etcd import Delete, Etcd, Get, Put, prefix_end
from shared.keys import Keys, message_id
from shared.queue import Lease, Queue, parse_bell
from shared.store.read import Store
from tests.integration.records import NOW_MS, publish, rows_of
from tests.waiting import wait_until


@pytest.fixture
def drain(etcd, keys, queue):
    return Drain(queue, lambda: Mover(etcd, keys, queue, 2), 2)


def test_publishing_twice_is_publishing_once(queue):
    upload = publish(queue, 3)
    before = queue.list_ready()
    publish(queue, 3, upload=upload)
    assert queue.list_ready() == before
    assert queue.depth(NOW_MS + 1500).oldest_age_s == 1.5
    assert queue.count_of_upload(upload) == (3, 0)


def test_an_upload_that_was_undone_takes_no_more_messages(queue, etcd, keys):
    upload = publish(queue, 1)
    etcd.txn([], [Put(keys.deleted(upload), b"{}"), Delete(keys.ready(message_id(upload, 0)))])
    record = Put(keys.upload(upload), b"{}")
    for number in (0, 1):
        with pytest.raises(Conflict, match="undone"):
            queue.publish(message_id(upload, number), b"x", rows=1, also=[record])
    assert queue.depth_now() == 0
    assert etcd.get(keys.upload(upload)) is None


def test_publishing_again_does_not_bring_back_what_went_with_it(queue, etcd, keys):
    upload = publish(queue, 1)
    record = Put(keys.upload(upload), b"{}")
    queue.publish(message_id(upload, 1), b"x", rows=1, also=[record])
    etcd.txn([], [Delete(record.key)])
    queue.publish(message_id(upload, 1), b"x", rows=1, also=[record])
    assert etcd.get(record.key) is None


def test_a_claim_is_exclusive_and_ends_with_its_lease(queue, etcd, lease):
    publish(queue, 1)
    messages = queue.list_ready()
    [claim] = queue.claim(messages, lease)
    other = Lease(etcd, 2)
    assert queue.claim(messages, other) == []
    assert queue.claimed() == {claim.message.id}
    assert queue.depth_now() == 1
    wait_until(lambda: not queue.claimed(), 10)
    [again] = queue.claim(queue.list_ready(), other)
    assert again.message.attempts == 1
    # The first claim is lost, though its message is there: it commits nothing.
    answer = etcd.txn(queue.commit_compare([claim]), queue.commit_operations([claim]))
    assert not answer.succeeded
    assert queue.depth_now() == 1
    other.give_back()


def test_a_stale_description_is_read_again(queue, lease):
    publish(queue, 2)
    old = queue.list_ready()
    queue.release(queue.claim(old, lease))
    assert [c.message.attempts for c in queue.claim(old, lease)] == [1, 1]


def test_release_rings_the_bell_with_what_a_claim_needs(queue, etcd, keys, lease):
    publish(queue, 1)
    queue.release(queue.claim(queue.list_ready(), lease))
    bell = etcd.get(keys.queue_bell)
    assert parse_bell(bell.value, bell.mod_revision) == queue.list_ready()


def test_two_collectors_take_each_message_once(queue, etcd):
    publish(queue, 40)
    messages = queue.list_ready()

    def take(_):
        own = Lease(etcd, 10)
        return [c.message.id for i in range(0, 40, 4) for c in queue.claim(messages[i : i + 4], own)]

    with ThreadPoolExecutor(5) as pool:
        taken = [m for part in pool.map(take, range(5)) for m in part]
    assert sorted(taken) == [m.id for m in messages]


def test_the_move_leaves_a_record_in_one_place(queue, drain, etcd, keys):
    publish(queue, 40)
    done = drain.take(queue.list_ready(), 20)
    assert (done.messages, done.rows, done.segments) == (40, 80, 2)
    assert queue.depth_now() == 0
    queue_prefix = keys.ready_prefix.removesuffix("ready/")
    left = etcd.read(Get(queue_prefix, prefix_end(queue_prefix))).items
    assert [i.key for i in left] == [keys.queue_bell]
    assert len(rows_of(Store(etcd, keys))) == 80
    assert drain.take_all(5).messages == 0


def test_burying_takes_a_claim(queue, lease):
    publish(queue, 1)
    [claim] = queue.claim(queue.list_ready(), lease)
    lease.give_back()
    with pytest.raises(Conflict):
        queue.bury(claim, "no", NOW_MS)


def test_a_watch_resumes_and_misses_nothing(queue, etcd):
    seen = []
    watch = queue.watch(queue.revision() + 1)

    def follow():
        for event in watch:
            seen.extend(m.id for m in parse_bell(event.value, event.mod_revision))

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(follow)
        first = publish(queue, 3)
        wait_until(lambda: len(seen) == 3)
        # The stream breaks; what is published meanwhile comes after.
        watch._call.cancel()
        second = publish(queue, 2)
        wait_until(lambda: len(seen) == 5)
        watch.close()
        future.result(5)
    assert seen == [message_id(first, i) for i in range(3)] + [message_id(second, i) for i in range(2)]


def test_the_index_follows_additions_and_deletions(queue, drain, etcd, keys):
    store = Store(etcd, keys)
    assert store.index().segments == ()
    publish(queue, 1)
    drain.take_all(10)
    first = store.index()
    assert len(first.segments) == 1
    assert store.index().segments is first.segments
    publish(queue, 1)
    drain.take_all(10)
    assert len(store.index().segments) == 2

    etcd.txn([], [Delete(first.segments[0].index_key(keys)), Put(keys.store_bell)])
    assert len(store.index().segments) == 1


def test_no_etcd_is_an_error_and_quick():
    gone = Etcd(["127.0.0.1:1"])
    with pytest.raises(Transient):
        gone.get("x")
    with pytest.raises(Transient):
        Queue(gone, Keys("/x")).list_ready()
