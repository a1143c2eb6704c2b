"""What the queue source decides: groups, how many requests at a time, and what a failure changes."""

from __future__ import annotations

import math

import pytest

from functions.collect.dealer import GATHER_S, WINDOW, Dealer
from functions.collect.pace import (
    BACKOFF_S,
    MAX_IN_FLIGHT,
    MESSAGES_PER_REQUEST,
    MOST_RETRY_AFTER_S,
    Pace,
)
from functions.collect.sink import build_event_id
from shared.queue import MAX_MESSAGES_PER_CLAIM, ReadyMessage

DEEP = MAX_IN_FLIGHT * MESSAGES_PER_REQUEST


def message(n, *, size=1000, attempts=0, revision=None):
    return ReadyMessage(
        id=f"018bcfe56800-aaaaaaaaaaaa-{n:06d}",
        bytes=size,
        rows=1,
        attempts=attempts,
        revision=n if revision is None else revision,
    )


# -- the dealer


def test_a_small_message_waits_for_company_and_a_full_group_does_not():
    dealer = Dealer()
    dealer.hear([message(0)], now=0.0)
    assert dealer.deal(now=GATHER_S / 2) == []
    assert dealer.due(now=0.0) == pytest.approx(GATHER_S)
    assert [m.revision for m in dealer.deal(now=GATHER_S)] == [0]
    dealer.hear([message(i) for i in range(1, 40)], now=1.0)
    assert len(dealer.deal(now=1.0)) == MAX_MESSAGES_PER_CLAIM


def test_what_is_dealt_is_not_dealt_again_until_collect_has_answered():
    dealer = Dealer()
    dealer.hear([message(0, attempts=1)], now=0.0)
    group = dealer.deal(now=0.0)
    dealer.hear(group, now=0.0)
    dealer.find([message(0, attempts=2, revision=9)], now=0.0)
    assert len(dealer) == 0
    dealer.done(group, now=0.0)
    assert len(dealer) == 0
    dealer.find(group, now=0.0)
    assert len(dealer) == 1


def test_what_is_released_by_the_request_that_has_it_waits_until_that_has_ended():
    dealer = Dealer()
    dealer.hear([message(0), message(1)], now=0.0)
    group = dealer.deal(now=1.0)
    released = message(1, attempts=1, revision=7)
    dealer.hear([released], now=1.0)
    assert dealer.deal(now=2.0) == []
    dealer.done(group, now=2.0)
    assert dealer.deal(now=2.0) == [released]


def test_a_bell_that_rings_late_is_no_news():
    dealer = Dealer()
    dealer.find([message(0)], now=0.0)
    group = dealer.deal(now=1.0)
    dealer.hear([message(0)], now=1.0)
    dealer.done(group, now=1.0)
    assert len(dealer) == 0


def test_the_window_is_bounded():
    dealer = Dealer()
    dealer.find((message(i) for i in range(WINDOW + 5)), now=0.0)
    assert len(dealer) == WINDOW
    assert dealer.overflowed


def test_an_event_is_named_by_all_that_it_names():
    one, other = message(0), message(1)
    ids = [[one], [other], [one, other], [message(0, revision=5)], [one, message(1, revision=5)]]
    assert len({build_event_id(group) for group in ids}) == len(ids)
    assert build_event_id([one, other]) == build_event_id([message(0), message(1)])


# -- the pace


@pytest.mark.parametrize(("depth", "requests"), [(0, 1), (12, 1), (13, 2), (40, 4), (1000, 20)])
def test_requests_at_a_time_follow_the_depth(depth, requests):
    assert Pace().allowed(depth, 0) == requests


def test_after_a_failure_one_at_a_time_tries_and_each_success_allows_twice_as_many():
    pace, now, allowed = Pace(), 0.0, []
    assert pace.failed(begun_at=0.0, now=1.0)
    assert pace.quiet_until == pytest.approx(1.0 + BACKOFF_S[0])
    assert not pace.failed(begun_at=1.2, now=1.2)
    assert pace.quiet_until == pytest.approx(1.2 + 2 * BACKOFF_S[0])
    for _ in range(6):
        allowed.append(pace.allowed(DEEP, 0))
        now += 1
        assert pace.succeeded() is (now == 1)
    assert allowed == [1, 2, 4, 8, 16, MAX_IN_FLIGHT]
    assert pace.allowed(1, 0) == 1
    assert pace.failed(begun_at=9.0, now=9.0)
    assert pace.quiet_until == pytest.approx(9.0 + BACKOFF_S[0])


def test_requests_that_meet_the_same_outage_are_one_failure():
    pace = Pace()
    for _ in range(MAX_IN_FLIGHT):
        pace.failed(begun_at=0.0, now=1.0)
    assert pace.quiet_until == pytest.approx(1.0 + BACKOFF_S[0])


def test_the_longest_pause_is_bounded_however_long_collect_is_away():
    pace, now = Pace(), 0.0
    for _ in range(2000):
        pace.failed(begun_at=now, now=now)
        assert now < pace.quiet_until <= now + BACKOFF_S[1]
        now = pace.quiet_until
    assert pace.quiet_until > BACKOFF_S[1] * 1900


@pytest.mark.parametrize(("asked", "pause"), [(0.0, 0.1), (7.0, 7.0), (1e9, MOST_RETRY_AFTER_S)])
def test_the_pause_that_collect_asks_for(asked, pause):
    pace = Pace()
    pace.failed(begun_at=0.0, now=1.0, retry_after_s=asked)
    assert pace.quiet_until == pytest.approx(1.0 + pause)
    pace.failed(begun_at=0.0, now=1.0, retry_after_s=3.0)
    assert pace.quiet_until == pytest.approx(1.0 + max(pause, 3.0))


def test_a_request_that_is_slow_holds_up_no_other():
    pace = Pace()
    assert pace.allowed(1, 1) == 2
    pace.failed(begun_at=0.0, now=1.0)
    assert pace.allowed(DEEP, 3) == 4
    assert pace.allowed(DEEP, 100) == MAX_IN_FLIGHT


# -- what it leads to

SERVICE_S, TARGET, MOST_INSTANCES = 0.1, 2 * 0.7, 10


def run_against(instances_after_s, depth, arriving_per_s=0.0, seconds=30.0):
    """Deal a queue to a collect that the autoscaler gives instances after a while; returns (time, wanted) pairs.

    Each instance answers two requests at a time, in SERVICE_S each.
    """
    dealer, pace, now, number = Dealer(), Pace(), 0.0, 0
    busy, waiting, wanted = [], [], []
    tick, total, since, instances, due = 0.005, 0.0, 0.0, 1, 0.0
    dealer.hear([message(n, size=220_000) for n in range(depth)], now)
    number = depth
    while now < seconds:
        due += arriving_per_s * tick
        while due >= 1:
            dealer.hear([message(number, size=6_000)], now)
            number, due = number + 1, due - 1
        for end, group in [b for b in busy if b[0] <= now]:
            busy.remove((end, group))
            dealer.done(group, now)
            pace.succeeded()
        while len(busy) + len(waiting) < pace.allowed(len(dealer), 0) and (group := dealer.deal(now)):
            waiting.append(group)
        while waiting and len(busy) < 2 * instances:
            busy.append((now + SERVICE_S, waiting.pop(0)))
        total += (len(busy) + len(waiting)) * tick
        now += tick
        if now - since >= 2.0:
            wanted.append(min(math.ceil(total / (now - since) / TARGET), MOST_INSTANCES))
            instances = max(wanted[-1], 1) if now >= instances_after_s else 1
            total, since = 0.0, now
    return wanted


def test_a_deep_queue_takes_collect_to_ten_instances_and_back():
    wanted = run_against(instances_after_s=2.0, depth=WINDOW)
    assert wanted[0] == MOST_INSTANCES
    assert wanted[-1] == 0


@pytest.mark.parametrize("per_s", [0.5, 5.0, 100.0])
def test_a_shallow_queue_stays_at_one_instance(per_s):
    assert set(run_against(instances_after_s=2.0, depth=1, arriving_per_s=per_s)) == {1}
