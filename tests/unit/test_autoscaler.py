"""What the autoscaler wants: the windows, panic, the rates, the delay, and what stands in nobody's example."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.autoscaler import (
    Autoscaler,
    AutoscalerSpec,
    Decision,
    SlidingWindow,
    panic_window_s,
    resolve_target,
)

SPEC = AutoscalerSpec(
    target_value=10.0,
    total_value=40 / 3,
    target_burst_capacity=100.0,
    panic_threshold=2.0,
    max_scale_up_rate=10.0,
    max_scale_down_rate=10.0,
    stable_window_s=60.0,
)
DEFAULTS = AutoscalerSpec(70.0, 100.0, 211.0, 2.0, 1000.0, 2.0, 60.0)


def decide(spec, ready, stable, panic, created_with=1):
    """Return the first decision of a new autoscaler, and whether it is in panic after it."""
    autoscaler = Autoscaler(spec, created_with, 1000.0)
    decision = autoscaler.scale(1000.0, ready, stable, panic)
    return decision.desired_scale, decision.excess_burst_capacity, autoscaler.panic_since is not None


def record(window, *writes):
    for t, value in writes:
        window.record(t, value)
    return window


# -- one decision


@pytest.mark.parametrize(
    ("changes", "ready", "stable", "panic", "expected"),
    [
        ({}, 1, 0, 0, (0, -87, False)),
        ({}, 1, 50, 50, (5, -137, True)),
        ({}, 1, 50, 10, (5, -97, False)),
        # The rates count a missing instance as one; the burst capacity does not.
        ({"target_burst_capacity": 81.0}, 0, 1000, 888, (10, -969, True)),
        ({"max_scale_down_rate": 1.1}, 100, 1, 1, (90, 1232, False)),
        ({"max_scale_down_rate": 1.1, "reachable": False}, 100, 1, 1, (1, 1232, False)),
        # ceil(2 * 1.1): a rate never stops growth by one.
        ({"target_value": 1.0, "max_scale_up_rate": 1.1}, 2, 3, 3.1, (3, -77, True)),
        ({"target_burst_capacity": 0.0}, 1, 50, 49, (5, 0, True)),
        ({"target_burst_capacity": -1.0}, 1, 1, 1, (1, -1, False)),
        ({"activation_scale": 3}, 1, 1, 0, (3, -87, False)),
        ({"activation_scale": 3}, 1, 0, 0, (0, -87, False)),
        # Zero stays zero, though the rate keeps five of ten.
        ({"activation_scale": 7, "max_scale_down_rate": 2.0}, 10, 0, 0, (5, 33, False)),
        ({"activation_scale": 3}, 1, 45, 0, (5, -87, False)),
        ({"activation_scale": 20}, 1, 1, 1, (20, -88, False)),
        ({"activation_scale": 1}, 1, 1, 1, (1, -88, False)),
    ],
)
def test_a_decision(changes, ready, stable, panic, expected):
    assert decide(replace(SPEC, **changes), ready, stable, panic) == expected


@pytest.mark.parametrize(
    ("target", "total", "ready", "load", "expected"),
    [
        (70.0, 100.0, 0, 1, (1, -212, False)),
        # The well-known extra instance: one request at 70 % of one wants two, and that is panic.
        (0.7, 1.0, 0, 1, (2, -212, True)),
        (1.0, 1.0, 0, 1, (1, -212, False)),
        (1.0, 1.0, 1, 10, (10, -220, True)),
    ],
)
def test_a_decision_with_the_defaults(target, total, ready, load, expected):
    spec = replace(DEFAULTS, target_value=target, total_value=total)
    assert decide(spec, ready, load, load, created_with=ready) == expected


def test_a_hair_above_a_whole_number_is_one_more():
    target, _ = resolve_target(3, None, 70)
    assert decide(replace(SPEC, target_value=target), 1, 2.1, 0)[0] == 2


@pytest.mark.parametrize("unknown", [(None, 1, 1), (1, None, 1), (1, 1, None), (None, None, None)])
def test_without_data_nothing_is_decided_or_remembered(unknown):
    autoscaler = Autoscaler(replace(SPEC, scale_down_delay_s=10.0), 3, 0.0)
    assert autoscaler.scale(100.0, *unknown) == Decision(False, 0, 0)
    assert autoscaler.panic_since == 0.0
    assert autoscaler.scale(60.0, 3, 0, 0).desired_scale == 3


def test_a_decision_says_why():
    autoscaler = Autoscaler(replace(SPEC, scale_down_delay_s=300.0), 1, 0.0)
    assert autoscaler.scale(0.0, 4, 42.0, 42.0).reason == "stable window average 42 wants 5"
    assert autoscaler.scale(2.0, 4, 42.0, 99.0).reason == "panic: panic window average 99 wants 10"
    assert autoscaler.scale(4.0, 10, 42.0, 1.0).reason == "panic holds 10"
    assert (
        autoscaler.scale(70.0, 10, 31.5, 1.0).reason
        == "scale-down-delay keeps 10; stable window average 31.5 wants 4"
    )
    spec = replace(
        SPEC, max_scale_up_rate=1.5, max_scale_down_rate=2.0, activation_scale=9, panic_threshold=99.0
    )
    autoscaler = Autoscaler(spec, 1, 0.0)
    assert autoscaler.scale(0.0, 10, 420.0, 0).reason == (
        "max-scale-up-rate allows 15; stable window average 420 wants 42"
    )
    assert autoscaler.scale(0.0, 20, 0.5, 0).reason == (
        "max-scale-down-rate keeps 10; stable window average 0.5 wants 1"
    )
    assert autoscaler.scale(0.0, 1, 5.0, 0).reason == "activation-scale 9; stable window average 5 wants 1"


# -- panic


def test_panic_ends_strictly_later_than_a_window_after_it_was_last_over_the_threshold():
    autoscaler = Autoscaler(replace(SPEC, target_value=1.0), 1, 0.0)
    assert autoscaler.scale(0.1, 10, 11, 25).desired_scale == 25
    assert autoscaler.scale(30.3, 40, 30, 80).desired_scale == 80
    assert autoscaler.panic_since == 30.3
    assert autoscaler.scale(90.3, 55, 50, 56).desired_scale == 80
    assert autoscaler.panic_since == 30.3
    assert autoscaler.scale(90.300001, 55, 50, 56).desired_scale == 50
    assert autoscaler.panic_since is None


def test_the_edge_of_a_window_is_exact_for_any_fraction_of_a_second():
    autoscaler = Autoscaler(SPEC, 2, 4.004)
    autoscaler.scale(64.004, 2, 0, 0)
    assert autoscaler.panic_since == 4.004
    assert 64.004 - 4.004 > 60.0, "as floats they are a hair more than the window apart"


def test_the_highest_scale_of_one_panic_is_not_that_of_the_next():
    autoscaler = Autoscaler(SPEC, 1, 0.0)
    assert autoscaler.scale(0.0, 10, 100, 1000).desired_scale == 100
    assert autoscaler.scale(61.0, 10, 1, 1).desired_scale == 1
    assert autoscaler.scale(62.0, 1, 1, 20).desired_scale == 2


def test_the_threshold_is_compared_before_the_rates_limit():
    spec = replace(SPEC, max_scale_up_rate=1.5)
    assert decide(spec, 1, 30, 30) == (2, -117, True)
    assert decide(replace(spec, panic_threshold=3.5), 1, 30, 30) == (2, -117, False)


@pytest.mark.parametrize(("created_with", "held"), [(None, 0), (0, 0), (1, 0), (2, 2), (5, 5)])
def test_one_made_with_several_instances_ready_holds_them_in_panic(created_with, held):
    autoscaler = Autoscaler(SPEC, created_with, 7.0)
    assert autoscaler.panic_since == (7.0 if held else None)
    assert autoscaler.scale(67.0, created_with or 0, 0, 0).desired_scale == held
    assert autoscaler.scale(67.1, created_with or 0, 0, 0).desired_scale == 0


# -- the delay


def test_the_delay_keeps_the_highest_scale_for_its_length():
    autoscaler = Autoscaler(
        replace(SPEC, panic_threshold=100.0, stable_window_s=0.0, scale_down_delay_s=300.0), 0, 0.0
    )
    steps = [(2, 40, 4), (300, 0, 4), (302, 0, 0), (540, 40, 4), (600, 30, 4), (840, 0, 3), (900, 0, 0)]
    assert [(t, load, autoscaler.scale(t, 0, load, load).desired_scale) for t, load, _ in steps] == steps


@pytest.mark.parametrize(("delay_s", "expected"), [(0.0, [4, 2, 1]), (0.5, [4, 4, 1]), (5.0, [4, 4, 4])])
def test_two_decisions_within_two_seconds_count_as_the_higher(delay_s, expected):
    spec = replace(SPEC, panic_threshold=100.0, scale_down_delay_s=delay_s)
    autoscaler = Autoscaler(spec, 1, 0.0)
    decisions = [autoscaler.scale(t, 1, load, load) for t, load in [(100.0, 40), (101.9, 20), (102.0, 10)]]
    assert [decision.desired_scale for decision in decisions] == expected


def test_what_no_route_leads_to_falls_without_the_delay():
    autoscaler = Autoscaler(replace(SPEC, scale_down_delay_s=300.0), 1, 0.0)
    assert autoscaler.scale(0.0, 5, 50, 50).desired_scale == 5
    autoscaler.spec = replace(autoscaler.spec, reachable=False)
    assert autoscaler.scale(2.0, 5, 0, 0).desired_scale == 0
    autoscaler.spec = replace(autoscaler.spec, reachable=True)
    assert autoscaler.scale(4.0, 5, 0, 0).desired_scale == 5


def test_a_new_spec_holds_from_the_next_decision_and_panic_goes_on():
    autoscaler = Autoscaler(SPEC, 1, 0.0)
    assert autoscaler.scale(0.0, 1, 100, 101).desired_scale == 10
    autoscaler.spec = replace(SPEC, target_value=1.0, target_burst_capacity=71.0, stable_window_s=6.0)
    assert autoscaler.scale(2.0, 10, 100, 101) == Decision(True, 100, -39)
    assert autoscaler.panic_since == 2.0
    assert autoscaler.scale(9.0, 100, 50, 50).desired_scale == 50


# -- targets and windows


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, None, 70), (70, 100)),
        ((0, None, 30, 2.0), (0.6, 2)),
        ((12, None, 75), (9, 12)),
        ((10, None, 80), (8, 10)),
        ((10, 1, 100), (1, 1)),
        ((1, 10, 100), (1, 1)),
        ((0, 250, 50), (125, 250)),
        ((0, 10, 75), (7.5, 10)),
        ((0, 0.01, 50), (0.01, 0.01)),
    ],
)
def test_the_target(arguments, expected):
    assert resolve_target(*arguments) == expected


@pytest.mark.parametrize(
    ("window_s", "percentage", "expected"),
    [(60, 10, 6), (10, 10, 1), (6, 10, 1), (6, 1, 1), (14, 10, 1), (15, 10, 2), (25, 10, 3), (60, 12.4, 7)],
)
def test_the_panic_window_is_rounded_with_halves_upwards(window_s, percentage, expected):
    assert panic_window_s(window_s, percentage) == expected


def test_an_average_is_over_the_seconds_since_the_first_write():
    window = SlidingWindow(5, 1)
    assert window.average(0) == 0
    assert record(window, (100.2, 1)).average(100.9) == 1
    record(window, (101, 2), (102, 3), (103, 4), (104.9, 2), (104, 3))
    assert window.average(104) == 3
    # A look back sees everything; a look ahead forgets what left and divides by what is left.
    assert window.average(99) == window.average(103.6) == 3
    assert window.average(106.5) == (15 - 1 - 2) / 3
    assert window.average(108.9) == 5
    assert window.average(109) == 0
    # A gap inside the window counts as 0; after a whole window it starts afresh.
    assert record(window, (106, 91)).average(106) == (15 - 1 - 2 + 91) / 5
    assert record(window, (110.9, 7)).average(110) == window.average(101) == (91 + 7) / 5
    assert record(window, (115, 1984)).average(115) == 1984


def test_a_late_write_counts_and_may_become_the_first():
    window = record(SlidingWindow(5, 1), (160, 1984), (157, 4))
    assert window.average(160) == (4 + 1984) / 4
    assert record(window, (161, 5)).average(161) == (4 + 1984 + 5) / 5
    assert record(window, (158, 10)).average(161) == (4 + 10 + 1984 + 5) / 5
    # Exactly a window before the newest is too late.
    assert record(window, (156, 10)).average(161) == (4 + 10 + 1984 + 5) / 5
    assert record(SlidingWindow(5, 1), *((t, 5) for t in range(108, 99, -1))).average(105) == 5


def test_an_average_is_cut_after_six_digits():
    assert record(SlidingWindow(60, 1), (0, 2), (2, 0)).average(2) == 0.666666
    assert record(SlidingWindow(60, 1), (0, 0.0000009)).average(0) == 0
    assert record(SlidingWindow(60, 1), (0, 12345)).average(0) == 12345


def test_buckets_may_be_longer_than_a_second():
    window = record(SlidingWindow(5, 3), (0, 10), (1, 2), (2, 3), (3, 4), (5.9, 6), (6, 7))
    assert window.average(8.9) == (4 + 6 + 7) / 2
    assert window.average(9) == 7
    assert window.average(12) == 0


# -- properties

LOADS = st.floats(0, 500)
STEPS = st.lists(st.tuples(st.sampled_from([0.5, 2.0, 30.0]), st.integers(0, 40), LOADS, LOADS), max_size=30)


def run(autoscaler, steps):
    now = 0.0
    for after_s, *observed in steps:
        now += after_s
        before = autoscaler.panic_since
        yield autoscaler.scale(now, *observed), before, autoscaler.panic_since


@settings(deadline=None)
@given(STEPS)
def test_it_never_goes_down_in_panic(steps):
    held = 0
    for decision, before, after in run(Autoscaler(SPEC, 0, 0.0), steps):
        if before is not None and after is not None:
            assert decision.desired_scale >= held
        held = decision.desired_scale


@settings(deadline=None)
@given(STEPS)
def test_decisions_without_data_in_between_change_none_of_the_others(steps):
    spec = replace(SPEC, scale_down_delay_s=7.0)
    plain = [decision for decision, *_ in run(Autoscaler(spec, 1, 0.0), steps)]
    blind = [(s[0] / 2, *unknown) for s in steps for unknown in [(None, 1, 1), (s[1], None, s[3])]]
    mixed = [s for i, step in enumerate(steps) for s in (blind[2 * i], (step[0] / 2, *step[1:]))]
    assert [d for d, *_ in run(Autoscaler(spec, 1, 0.0), mixed) if d.valid] == plain


@settings(deadline=None)
@given(st.integers(0, 40), LOADS, LOADS, LOADS, st.sampled_from([0, 3]))
def test_more_load_never_wants_fewer(ready, stable, panic, more, activation_scale):
    spec = replace(SPEC, activation_scale=activation_scale)
    least = decide(spec, ready, stable, panic, 0)[0]
    assert decide(spec, ready, stable + more, panic, 0)[0] >= least
    assert decide(spec, ready, stable, panic + more, 0)[0] >= least


@settings(deadline=None)
@given(STEPS)
def test_the_rates_bound_every_decision_outside_panic(steps):
    spec = replace(SPEC, panic_threshold=1e9, max_scale_up_rate=1.5, max_scale_down_rate=2.0)
    for (decision, *_), (_, ready, *_) in zip(run(Autoscaler(spec, 1, 0.0), steps), steps, strict=True):
        assert max(1, ready) // 2 <= decision.desired_scale <= -(-max(1, ready) * 3 // 2)


@settings(deadline=None)
@given(STEPS, st.sampled_from([1.0, 4.0, 9.0]))
def test_the_delay_is_a_maximum_over_what_would_have_been(steps, delay_s):
    spec = replace(SPEC, panic_threshold=1e9)
    plain = [d.desired_scale for d, *_ in run(Autoscaler(spec, 1, 0.0), steps)]
    delayed = [
        d.desired_scale for d, *_ in run(Autoscaler(replace(spec, scale_down_delay_s=delay_s), 1, 0.0), steps)
    ]
    ticks = [int(sum(s[0] for s in steps[: i + 1]) // 2) for i in range(len(steps))]
    ticks_kept = -(-delay_s // 2)
    assert delayed == [
        max(
            scale
            for tick, scale in zip(ticks[: i + 1], plain[: i + 1], strict=True)
            if ticks[i] - tick < ticks_kept
        )
        for i in range(len(steps))
    ]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-12, 12), st.integers(0, 50)), max_size=40),
    st.integers(1, 9),
    st.integers(-3, 12),
)
def test_a_window_is_what_a_plain_sum_over_its_writes_gives(writes, length, ahead):
    window, kept, now = SlidingWindow(length, 1), [], 100
    for step, value in writes:
        now += step
        window.record(now + 0.25, value)
        newest = max((t for t, _ in kept), default=now - length)
        if now - newest >= length:
            kept = []
        if newest - now < length:
            kept.append((now, value))
    now = max((t for t, _ in kept), default=0) + ahead
    assert window.average(now) == pytest.approx(plain_average(kept, length, now), abs=2e-6)


def plain_average(kept, length, now):
    newest = max((t for t, _ in kept), default=now - length)
    if now - newest >= length:
        return 0
    end = max(now, newest)
    seconds = min(newest - min(t for t, _ in kept) + 1, length - (end - newest))
    return sum(value for t, value in kept if t > end - length) / seconds
