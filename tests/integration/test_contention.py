"""Many collectors on one queue: each message once, and hardly any work for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.collect.drain import Drain
from functions.collect.move import Done, Mover
from shared.etcd import Etcd, Get, Put, prefix_end
from shared.keys import message_id
from shared.queue import Lease, Queue
from shared.store.read import Store
from tests.functions import ROOT
from tests.integration.records import publish, publish_many, rows_of
from tests.waiting import wait_until

COLLECTORS = 10
MESSAGES = 3000
#: Of all transactions that claim or move, those that may be lost to others.
MOST_LOST = 0.05


def check(done, etcd, keys):
    """Everything was moved, once, and hardly a transaction for nothing."""
    assert done.messages == MESSAGES
    assert done.rows == 2 * MESSAGES
    assert done.transactions_lost <= MOST_LOST * done.transactions, done
    assert Queue(etcd, keys).depth_now() == 0
    assert len(rows_of(Store(etcd, keys))) == 2 * MESSAGES
    assert collectors(etcd, keys) == []


def collectors(etcd, keys):
    prefix = keys.collectors_prefix
    return [i.key for i in etcd.read(Get(prefix, prefix_end(prefix))).items]


def make_drain(etcd, keys, workers=2):
    queue = Queue(etcd, keys)
    return Drain(queue, lambda: Mover(etcd, keys, queue, 30), workers)


@pytest.mark.parametrize("of_upload", [1, 100])
def test_collectors_in_threads(etcd, etcd_endpoint, keys, of_upload):
    publish_many(etcd, keys, MESSAGES, of_upload=of_upload)
    clients = [Etcd([etcd_endpoint]) for _ in range(COLLECTORS)]
    together = threading.Barrier(COLLECTORS)

    def drain(client):
        mine = make_drain(client, keys)
        together.wait()
        return mine.take_all(120)

    total = Done()
    with ThreadPoolExecutor(COLLECTORS) as pool:
        for done in pool.map(drain, clients):
            total.add(done)
    for client in clients:
        client.close()
    check(total, etcd, keys)


def test_collectors_in_processes(etcd, etcd_endpoint, keys, prefix):
    publish_many(etcd, keys, MESSAGES)
    command = [sys.executable, "-m", "tests.integration.draining", etcd_endpoint, prefix, "2"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(COLLECTORS)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    total = Done()
    for answer in answers:
        total.add(Done(**answer))
    check(total, etcd, keys)
    # They shared: nobody did it all.
    assert max(answer["messages"] for answer in answers) < MESSAGES / 2


def test_what_falls_to_one_that_died_is_taken_when_its_key_has_ended(etcd, keys):
    publish_many(etcd, keys, 200)
    dead = Lease(etcd, 3)
    etcd.txn([], [Put(keys.collector("dead"), b"", dead.renewed())])
    assert make_drain(etcd, keys).take_all(60).messages == 200


def test_what_falls_to_one_that_hangs_is_taken(etcd, keys):
    publish_many(etcd, keys, 200)
    hung = Lease(etcd, 60)
    etcd.txn([], [Put(keys.collector("hung"), b"", hung.renewed())])
    assert make_drain(etcd, keys).take_all(60).messages == 200
    hung.give_back()


def test_what_falls_to_one_at_work_is_left_to_it(etcd, keys, queue):
    publish_many(etcd, keys, 200)
    busy = Lease(etcd, 60)
    etcd.txn([], [Put(keys.collector("busy"), b"", busy.renewed())])
    ended = threading.Event()

    def work():
        # Claims one message after the other, from the end.
        for message in reversed(queue.list_ready()):
            queue.claim([message], busy, by="busy")
            if ended.wait(0.05):
                return

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        done = make_drain(etcd, keys).take_all(60)
        ended.set()
        working.result(10)
    assert 0 < done.messages < 200
    assert queue.depth_now() == 200 - done.messages
    busy.give_back()


def test_a_collector_that_was_held_up_makes_itself_known_again(etcd, keys, queue):
    publish(queue, 5)
    with queue.joined() as me:
        me._lease.give_back()
        assert collectors(etcd, keys) == []
        assert len(me.look("").mine) == 5
        assert collectors(etcd, keys) == [keys.collector(me.id)]
    assert collectors(etcd, keys) == []


def test_what_is_published_meanwhile_is_left_to_those_who_are_told(etcd, keys, queue):
    old = publish(queue, 1)
    with queue.joined() as me:
        publish(queue, 1)
        assert [m.id for m in me.look("").mine] == [message_id(old, 0)]


def test_signs_of_life(queue, etcd):
    upload = publish(queue, 2)
    first, second = (message_id(upload, n) for n in range(2))
    with queue.joined() as me, queue.joined() as other:
        me.look("")
        assert me.wait_for({"nobody": first}, float("inf")) == "changed"
        assert me.wait_for({other.id: first}, 0) == "silent"
        with queue.joined():
            assert me.wait_for({other.id: first}, 0) == "changed"
        assert me.wait_for({other.id: first}, 0) == "silent"
        lease = Lease(etcd, 30)
        [claim] = queue.claim([m for m in queue.list_ready() if m.id == second], lease)
        assert me.wait_for({other.id: first}, 0) == "silent"
        # It was taken before: the others may be taken too, or left behind.
        assert me.wait_for({other.id: second}, 0) == "changed"
        queue.put_back(claim)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(me.wait_for, {other.id: first}, float("inf"))
            wait_until(lambda: queue.claim(queue.list_ready()[1:], lease, by=other.id) or waiting.done())
            assert waiting.result(10) == "working"
        lease.give_back()
