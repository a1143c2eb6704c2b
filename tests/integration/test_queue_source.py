"""The queue source against a real etcd and servers that stand for collect: what fails, hangs and comes back.

POLL_INTERVAL is an hour wherever a message must not be left to it.
"""

from __future__ import annotations

import threading

import pytest

from functions.collect.pace import MAX_IN_FLIGHT
from shared.errors import Transient
from shared.etcd import Put
from shared.keys import message_id
from shared.queue import Queue
from tests.functions import free_port
from tests.integration.dealing import dealing
from tests.integration.records import publish, publish_many
from tests.integration.standing_in import RESET, StandIn
from tests.waiting import wait_until


def failing(times, answer):
    """Answer so many events like that, and take the others."""
    return lambda number, _ids: answer if number < times else 204


def ids_of(upload, count, start=0):
    return {message_id(upload, number) for number in range(start, start + count)}


def test_what_waits_and_what_comes_is_told(etcd, keys, queue):
    before = publish(queue, 3)
    with StandIn(etcd, keys) as collect, dealing(queue, collect.url):
        wait_until(lambda: set(collect.taken) == ids_of(before, 3))
        after = publish(queue, 2)
        wait_until(lambda: set(collect.taken) == ids_of(before, 3) | ids_of(after, 2))
    headers, ids = collect.events[0]
    assert set(ids) == ids_of(before, 3)
    named = {name.lower(): value for name, value in headers.items()}
    assert named["ce-specversion"] == "1.0"
    assert named["ce-type"] == "io.gpu-telemetry.queue.messages"
    assert named["ce-source"] == "/queue"
    assert named["content-type"] == "application/json"
    assert len({h["ce-id"] for h, _ in collect.events}) == len(collect.events)


@pytest.mark.parametrize(
    "answer", [500, 502, 503, 504, 404, (429, {"Retry-After": "1"}), (503, {"Retry-After": "soon"}), RESET]
)
def test_what_collect_does_not_take_is_told_again(etcd, keys, queue, answer):
    with StandIn(etcd, keys, failing(3, answer)) as collect, dealing(queue, collect.url):
        upload = publish(queue, 5)
        wait_until(lambda: set(collect.taken) == ids_of(upload, 5))
        assert queue.depth_now() == 0
        assert not collect.doubled
        again = publish(queue, 1)
        wait_until(lambda: ids_of(again, 1) <= set(collect.taken))


def test_a_collect_that_is_down_is_found_when_it_comes(etcd, keys, queue):
    port = free_port()
    with dealing(queue, f"http://127.0.0.1:{port}") as source:
        upload = publish(queue, 40)
        wait_until(lambda: source.dealings().failed >= 3)
        with StandIn(etcd, keys, port=port) as collect:
            wait_until(lambda: set(collect.taken) == ids_of(upload, 40))
            assert not collect.doubled
            assert len(collect.taken) == 40


def test_a_collect_that_goes_amid_a_deep_queue(etcd, keys, queue):
    publish_many(etcd, keys, 600, of_upload=10)
    down = threading.Event()

    def answer(number, _ids):
        down.wait(0.02)
        return RESET if 5 <= number < 9 else 204

    with StandIn(etcd, keys, answer) as collect, dealing(queue, collect.url):
        wait_until(lambda: len(collect.taken) == 600)
        assert len(set(collect.taken)) == 600
        assert not collect.doubled


def test_an_answer_that_never_comes_is_not_waited_for_for_ever(etcd, keys, queue):
    over = threading.Event()

    def answer(number, _ids):
        if number == 0:
            over.wait(30)
            return RESET
        return 204

    with StandIn(etcd, keys, answer) as collect, dealing(queue, collect.url, timeout_s=0.5):
        upload = publish(queue, 1)
        wait_until(lambda: set(collect.taken) == ids_of(upload, 1))
        over.set()


def test_a_request_that_hangs_holds_up_no_other(etcd, keys, queue):
    over = threading.Event()

    def answer(number, _ids):
        if number == 0:
            over.wait(60)
            return RESET
        return 204

    with StandIn(etcd, keys, answer) as collect, dealing(queue, collect.url, timeout_s=60.0):
        publish(queue, 1)
        wait_until(lambda: collect.at_once == 1)
        other = publish(queue, 1)
        wait_until(lambda: set(collect.taken) == ids_of(other, 1))
        assert collect.at_once == 1
        over.set()


def test_while_claimed_a_message_is_left_alone(etcd, keys, queue, lease):
    upload = publish(queue, 2)
    claims = queue.claim(queue.list_ready(limit=1), lease)
    with StandIn(etcd, keys) as collect, dealing(queue, collect.url):
        wait_until(lambda: set(collect.taken) == ids_of(upload, 1, start=1))
        queue.release(claims)
        wait_until(lambda: set(collect.taken) == ids_of(upload, 2))


def test_requests_at_a_time_follow_the_depth(etcd, keys, queue):
    slow = threading.Event()

    def answer(_number, _ids):
        slow.wait(0.1)
        return 204

    with StandIn(etcd, keys, answer) as collect, dealing(queue, collect.url):
        for _ in range(5):
            upload = publish(queue, 1)
            wait_until(lambda upload=upload: ids_of(upload, 1) <= set(collect.taken), every_s=0.01)
        assert collect.most_at_once == 1
    publish_many(etcd, keys, 1200, of_upload=20)
    with StandIn(etcd, keys, answer) as collect, dealing(queue, collect.url):
        wait_until(lambda: len(collect.taken) == 1200)
        assert collect.most_at_once == MAX_IN_FLIGHT
        assert not collect.doubled


class BreakingQueue(Queue):
    """A queue whose watches do as they are told, one after the other."""

    def __init__(self, etcd, keys, first_watches):
        super().__init__(etcd, keys)
        self._watches = iter(first_watches)
        #: The revisions watches were begun at.
        self.begun = []

    def watch(self, start_revision):
        self.begun.append(start_revision)
        how = next(self._watches, None)
        return super().watch(start_revision) if how is None else how(super().watch, start_revision)


class BreaksAfterOne:
    """A watch that breaks after its first event."""

    def __init__(self, watch):
        self._watch = watch

    def close(self):
        self._watch.close()

    def __iter__(self):
        yield next(iter(self._watch))
        self._watch.close()
        raise Transient("broken")


def test_a_watch_that_breaks_goes_on_after_the_last_revision_seen(etcd, keys):
    queue = BreakingQueue(etcd, keys, [lambda watch, start: BreaksAfterOne(watch(start))])
    with StandIn(etcd, keys) as collect, dealing(queue, collect.url):
        wait_until(lambda: queue.begun)
        first = publish(queue, 1)
        seen = wait_until(lambda: etcd.get(keys.queue_bell)).mod_revision
        second = publish(queue, 1)
        wait_until(lambda: set(collect.taken) == ids_of(first, 1) | ids_of(second, 1))
        assert queue.begun[1:] == [seen + 1]


def test_history_that_is_compacted_is_made_up_for_by_a_listing(etcd, keys):
    silent = threading.Event()

    def too_late(watch, start):
        silent.wait(30)
        etcd.compact(etcd.read_revision)
        return watch(1)

    queue = BreakingQueue(etcd, keys, [too_late])
    with StandIn(etcd, keys) as collect, dealing(queue, collect.url):
        wait_until(lambda: queue.begun)
        publish_many(etcd, keys, 3)
        etcd.read_revision = queue.revision()
        silent.set()
        wait_until(lambda: len(collect.taken) == 3)
        upload = publish(queue, 1)
        wait_until(lambda: ids_of(upload, 1) <= set(collect.taken))
        assert len(queue.begun) == 2


@pytest.mark.parametrize("bell", [b"not JSON", b"[]", b'{"messages": [{}]}'])
def test_a_bell_that_cannot_be_read_is_made_up_for_by_a_listing(etcd, keys, queue, bell):
    with StandIn(etcd, keys) as collect, dealing(queue, collect.url):
        first = publish(queue, 1)
        wait_until(lambda: set(collect.taken) == ids_of(first, 1))
        publish_many(etcd, keys, 2)
        etcd.txn([], [Put(keys.queue_bell, bell)])
        # At the start a listing may have been faster than the bell: once more is no mistake.
        wait_until(lambda: len(set(collect.taken)) == 3)
        upload = publish(queue, 1)
        wait_until(lambda: ids_of(upload, 1) <= set(collect.taken))


def test_without_etcd_for_a_while_nothing_is_forgotten(etcd, keys):
    class AwayQueue(Queue):
        away = False

        def claimed(self):
            if self.away:
                raise Transient("away")
            return super().claimed()

    queue = AwayQueue(etcd, keys)
    with (
        StandIn(etcd, keys, lambda number, _ids: 503 if number == 1 else 204) as collect,
        dealing(queue, collect.url) as source,
    ):
        first = publish(queue, 1)
        wait_until(lambda: set(collect.taken) == ids_of(first, 1))
        queue.away = True
        upload = publish(queue, 1)
        wait_until(lambda: source.dealings().failed == 1)
        queue.away = False
        wait_until(lambda: ids_of(upload, 1) <= set(collect.taken))


# -- the process


def test_at_the_end_a_request_that_hangs_is_left(etcd, keys, queue):
    over = threading.Event()
    with StandIn(etcd, keys, lambda *_: over.wait(30) or RESET) as collect:
        with dealing(queue, collect.url, stop_s=0.1):
            publish(queue, 1)
            wait_until(lambda: collect.at_once == 1)
        assert collect.at_once == 1
        over.set()
