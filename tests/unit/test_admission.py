"""Who may publish: the decision, and the gate that takes it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from shared.errors import NoSpace, Transient
from shared.etcd_metrics import MEMORY, QUOTA, parse_metrics, read_metrics
from shared.queue.admission import MAX_DELAY_S, Limits, Reading, decide_admission
from shared.queue.gate import Gate
from tests.functions import free_port
from tests.waiting import wait_until

LIMITS = Limits(messages=1000, bytes=1_000_000)
CALM = Reading(
    messages=0, bytes=0, empty_s=float("inf"), database_bytes=10, quota_bytes=1000, space_alarm=False
)


@pytest.mark.parametrize(
    ("messages", "size", "delay_s"),
    [
        (0, 0, 0),
        (499, 499_999, 0),
        (500, 0, 0),
        (750, 0, MAX_DELAY_S / 2),
        (10, 750_000, MAX_DELAY_S / 2),
        (600, 900_000, MAX_DELAY_S * 0.8),
        (999, 0, MAX_DELAY_S * 0.998),
    ],
)
def test_from_half_of_a_mark_on_each_publish_is_delayed(messages, size, delay_s):
    decision = decide_admission(replace(CALM, messages=messages, bytes=size), LIMITS)
    assert decision.refusal is None
    assert decision.delay_s == pytest.approx(delay_s, abs=1e-6)


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        (replace(CALM, messages=1000), ("1000 messages", "MAX_QUEUE_MESSAGES")),
        (replace(CALM, bytes=1_000_001), ("1000001 bytes", "MAX_QUEUE_BYTES is 1000000")),
    ],
)
def test_at_a_mark_it_is_refused_with_its_number_and_its_setting(reading, says):
    refusal = decide_admission(reading, LIMITS).refusal
    assert isinstance(refusal, Transient)
    assert refusal.retry_after_s == 5
    for words in says:
        assert words in refusal.message
    assert Transient().retry_after_s == 1


@pytest.mark.parametrize(
    ("reading", "refused"),
    [
        (replace(CALM, database_bytes=599), None),
        (replace(CALM, database_bytes=600, messages=1), Transient),
        (replace(CALM, database_bytes=600), NoSpace),
        # Moved a moment ago: compaction has yet to come.
        (replace(CALM, database_bytes=600, empty_s=60), Transient),
        (replace(CALM, database_bytes=600, empty_s=121), NoSpace),
        (replace(CALM, database_bytes=600, quota_bytes=-1), None),
        (replace(CALM, space_alarm=True, messages=5), NoSpace),
    ],
)
def test_a_database_that_fills_refuses_as_long_as_waiting_helps_with_503(reading, refused):
    refusal = decide_admission(reading, LIMITS).refusal
    assert refusal is None if refused is None else type(refusal) is refused


def test_what_was_published_since_the_reading_counts():
    gate = Gate(lambda: CALM, LIMITS)
    gate.admit(999_999)
    gate.admit(1)
    with pytest.raises(Transient, match="MAX_QUEUE_BYTES"):
        gate.admit(1)
    # The next reading knows better.
    wait_until(lambda: _admits(gate))


def test_below_the_mark_again_it_is_accepted_again():
    now = [replace(CALM, messages=1000)]
    gate = Gate(lambda: now[0], LIMITS)
    assert not _admits(gate)
    with pytest.raises(Transient):
        gate.check()
    now[0] = CALM
    wait_until(lambda: _admits(gate))


def test_a_reading_under_way_holds_nobody_up():
    begun, go_on = threading.Event(), threading.Event()

    def read():
        if begun.is_set():
            go_on.wait(30)
        begun.set()
        return CALM

    gate = Gate(read, LIMITS)
    gate.admit(1)
    wait_until(lambda: gate._latest()[2])
    for _ in range(100):
        gate.admit(1)
    assert not go_on.is_set()
    go_on.set()


def test_where_nothing_can_be_read_the_publish_decides():
    reads = []

    def read():
        reads.append(1)
        raise Transient

    gate = Gate(read, LIMITS)
    for _ in range(100):
        gate.check()
        gate.admit(1)
    assert len(reads) <= 2


def _admits(gate):
    try:
        gate.admit(1)
    except Transient:
        return False
    return True


def test_metrics_are_found_by_their_whole_name():
    text = f"# HELP {QUOTA} x\n{QUOTA}_more 1\n{QUOTA} 8.589934592e+09\n{MEMORY} 1e3\n".encode()
    assert parse_metrics(text, {QUOTA}) == {QUOTA: 8 * 1024**3}


def test_no_metrics_is_nothing_found():
    assert read_metrics([f"127.0.0.1:{free_port()}"], [QUOTA]) == {}
