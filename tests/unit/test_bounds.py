"""How many instances there shall be: the bounds, and the way of the last one to zero and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.autoscaler import Autoscaler, AutoscalerSpec, Decision, SlidingWindow, panic_window_s
from local_runtime.bounds import Bounds, Phase, Scale, decide_scale, first_scale

UNKNOWN = Decision(False, 0, 0, "no data yet")


def wants(scale, excess_burst_capacity=-111):
    return Decision(True, scale, excess_burst_capacity, f"the load wants {scale}")


def follow(bounds, *steps, last=None):
    """Return the scale after each step (now_s, decision, ready_pods) of a revision made at 0."""
    scale = last or first_scale(bounds, 0.0)
    for now_s, decision, ready_pods in steps:
        scale = decide_scale(bounds, scale, decision, ready_pods=ready_pods, now_s=now_s)
        yield scale


def told(bounds, *steps, last=None):
    return [(scale.desired, scale.reason) for scale in follow(bounds, *steps, last=last)]


def active(desired=1, since_s=0.0):
    return Scale(
        desired=desired,
        reason="",
        phase=Phase.ACTIVE,
        phase_since_s=since_s,
        in_path_since_s=since_s,
        is_initialized=True,
    )


# -- min, max and initial scale


@pytest.mark.parametrize(
    ("bounds", "wanted", "expected"),
    [
        ({}, 400, (400, "the load wants 400")),
        ({"max_scale": 10}, 11, (10, "max-scale 10; the load wants 11")),
        ({"max_scale": 10}, 10, (10, "the load wants 10")),
        ({"min_scale": 2}, 0, (2, "min-scale 2; the load wants 0")),
        ({"min_scale": 2, "max_scale": 2}, 9, (2, "max-scale 2; the load wants 9")),
        ({"scale_to_zero": False}, 0, (1, "held at 1: enable-scale-to-zero is false")),
    ],
)
def test_the_bounds(bounds, wanted, expected):
    assert told(Bounds(**bounds), (100.0, wants(wanted), 1), last=active()) == [expected]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, 1),
        ({"initial_scale": 3}, 3),
        ({"min_scale": 4}, 4),
        ({"initial_scale": 3, "max_scale": 2}, 2),
        ({"initial_scale": 0}, 0),
        ({"initial_scale": 0, "min_scale": 1}, 1),
    ],
)
def test_a_revision_starts_with_its_initial_scale(bounds, expected):
    scale = first_scale(Bounds(**bounds), 0.0)
    assert scale.desired == expected
    assert scale.phase is (Phase.ACTIVATING if expected else Phase.INACTIVE)
    assert scale.in_path_since_s == (None if expected else 0.0)


def test_it_is_active_once_the_minimum_is_ready():
    steps = [(2.0, wants(1), 2), (4.0, wants(1), 3), (6.0, wants(1), 2)]
    phases = [(scale.phase, scale.phase_since_s) for scale in follow(Bounds(min_scale=3), *steps)]
    assert phases == [(Phase.ACTIVATING, 0.0), (Phase.ACTIVE, 4.0), (Phase.ACTIVATING, 6.0)]


def test_the_initial_scale_is_reached_once_before_it_scales_lower():
    steps = [
        (2.0, wants(1), 1),
        (4.0, wants(0), 2),
        (6.0, wants(1), 3),
        (8.0, wants(1), 1),
        (10.0, wants(5), 1),
    ]
    assert told(Bounds(initial_scale=3), *steps) == [
        (3, "initial-scale 3; the load wants 1"),
        (3, "initial-scale 3; the load wants 0"),
        (1, "the load wants 1"),
        (1, "the load wants 1"),
        (5, "the load wants 5"),
    ]


def test_an_initial_scale_above_the_maximum_counts_as_the_maximum():
    bounds = Bounds(initial_scale=5, max_scale=2)
    assert told(bounds, (2.0, wants(1), 2), (4.0, wants(1), 2))[-1] == (1, "the load wants 1")


def test_a_decision_that_is_not_valid_changes_nothing():
    last = active(desired=4)
    assert told(Bounds(), (500.0, UNKNOWN, 4), last=last) == [(4, "no data yet")]
    going = list(
        follow(Bounds(), (60.0, wants(0, 0), 1), (70.0, UNKNOWN, 1), (90.0, wants(0, 0), 1), last=active())
    )
    assert [scale.desired for scale in going] == [1, 1, 0]
    assert told(Bounds(initial_scale=0), (9.0, UNKNOWN, 0)) == [(0, "no data yet")]


# -- to zero and back


def test_the_last_instance_is_held_until_it_was_active_for_the_window():
    steps = [(t, wants(0), t > 2) for t in (2.0, 4.0, 63.9, 64.0)]
    assert told(Bounds(), *steps) == [
        (1, "held at 1: starting for 2 s"),
        (1, "held at 1: active for 0 s of 60"),
        (1, "held at 1: active for 59 s of 60"),
        (0, "the load wants 0"),
    ]


def test_several_fall_to_one_and_not_to_zero_before_the_window():
    assert told(Bounds(), (30.0, wants(0), 4), last=active(desired=4)) == [
        (1, "held at 1: active for 30 s of 60")
    ]


def test_without_a_burst_capacity_the_grace_period_comes_on_top():
    steps = [(t, wants(0, 0), 1) for t in (59.0, 60.0, 89.0, 90.0)]
    assert told(Bounds(), *steps, last=active()) == [
        (1, "held at 1: active for 59 s of 60"),
        (1, "held at 1: activator in the path for 0 s of 30"),
        (1, "held at 1: activator in the path for 29 s of 30"),
        (0, "the load wants 0"),
    ]


def test_the_grace_period_begins_anew_when_the_activator_left_the_path():
    steps = [
        (50.0, wants(1, -1), 1),
        (52.0, wants(1, 3), 1),
        (54.0, wants(1, -1), 1),
        (80.0, wants(0, -1), 1),
    ]
    assert told(Bounds(), *steps, (84.0, wants(0, -1), 1), last=active())[-2:] == [
        (1, "held at 1: activator in the path for 26 s of 30"),
        (0, "the load wants 0"),
    ]


def test_the_last_instance_is_kept_for_the_retention_period():
    steps = [(t, wants(0), 1) for t in (70.0, 110.0, 111.9, 112.0)]
    assert told(Bounds(retention_s=42.0), *steps, last=active()) == [
        (1, "held at 1: kept for 0 s of 42"),
        (1, "held at 1: kept for 40 s of 42"),
        (1, "held at 1: kept for 41 s of 42"),
        (0, "the load wants 0"),
    ]


@pytest.mark.parametrize("ready", [0, 1])
def test_an_arrival_brings_back_one_that_is_going(ready):
    steps = [(60.0, wants(0, 0), 1), (75.0, wants(1, 0), ready), (77.0, wants(0, 0), 1)]
    assert told(Bounds(), *steps, last=active()) == [
        (1, "held at 1: activator in the path for 0 s of 30"),
        (1, "the load wants 1"),
        (1, f"held at 1: active for {2 * ready} s of 60"),
    ]


def test_an_arrival_brings_back_one_from_zero():
    scales = list(
        follow(Bounds(), (60.0, wants(0), 1), (61.0, wants(2), 0), (62.0, wants(0), 1), last=active())
    )
    assert [(scale.desired, scale.phase) for scale in scales] == [
        (0, Phase.INACTIVE),
        (2, Phase.ACTIVATING),
        (1, Phase.ACTIVE),
    ]


def test_at_zero_it_stays_zero_whatever_the_burst_capacity_says():
    steps = [(60.0, wants(0), 1), (62.0, wants(0, 0), 0), (64.0, UNKNOWN, 0)]
    assert [scale.desired for scale in follow(Bounds(retention_s=0.0), *steps, last=active())] == [0, 0, 0]


def test_one_that_crashed_must_be_active_for_the_window_again():
    steps = [(70.0, wants(0), 0), (80.0, wants(0), 1), (139.0, wants(0), 1), (140.0, wants(0), 1)]
    assert [scale.desired for scale in follow(Bounds(), *steps, last=active())] == [1, 1, 1, 0]


def test_one_that_never_becomes_ready_is_given_up_once_nobody_wants_it():
    steps = [
        (600.0, wants(3, 0), 0),
        (609.9, wants(0, 0), 0),
        (610.0, wants(0, 0), 0),
        (612.0, wants(1, 0), 0),
    ]
    assert told(Bounds(), *steps) == [
        (3, "the load wants 3"),
        (3, "held at 3: starting for 609 s"),
        (0, "not ready within 610 s"),
        (1, "the load wants 1"),
    ]


# -- properties

BOUNDS = st.builds(
    lambda least, more, **rest: Bounds(min_scale=least, max_scale=(least + more) if more else 0, **rest),
    st.integers(0, 3),
    st.integers(0, 4),
    initial_scale=st.integers(0, 5),
    stable_window_s=st.just(6.0),
    grace_period_s=st.sampled_from([0.0, 5.0]),
    retention_s=st.sampled_from([0.0, 8.0]),
    scale_to_zero=st.booleans(),
)
DECISIONS = st.just(UNKNOWN) | st.builds(wants, st.integers(0, 9), st.sampled_from([-9, 0]))
STEPS = st.lists(st.tuples(st.sampled_from([0.5, 2.0, 7.0]), DECISIONS, st.integers(0, 9)), max_size=30)


@settings(deadline=None)
@given(BOUNDS, STEPS)
def test_it_stays_within_the_bounds_and_goes_to_zero_only_by_the_rules(bounds, steps):
    last, now_s = first_scale(bounds, 0.0), 0.0
    for after_s, decision, ready_pods in steps:
        now_s += after_s
        scale = decide_scale(bounds, last, decision, ready_pods=ready_pods, now_s=now_s)
        assert not bounds.max_scale or scale.desired <= bounds.max_scale
        assert scale.desired >= bounds.min_scale
        assert scale.desired >= min(decision.desired_scale, bounds.max_scale or decision.desired_scale)
        assert scale.is_initialized >= last.is_initialized
        if not scale.is_initialized and bounds.initial_scale > 1:
            assert scale.desired >= min(bounds.initial_scale, bounds.max_scale or bounds.initial_scale)
        if not decision.valid:
            assert scale.desired == last.desired
        if scale.desired == 0 < last.desired:
            assert bounds.scale_to_zero
            assert decision == wants(0, decision.excess_burst_capacity)
            assert scale.phase is Phase.INACTIVE
            assert now_s - scale.in_path_since_s >= bounds.grace_period_s
            assert now_s - scale.phase_since_s >= bounds.retention_s
        last = scale


class Revision:
    """The smallest thing that runs: second by second, instances that take two to start, and the two steps."""

    def __init__(self, spec, bounds):
        self.bounds = bounds
        self.autoscaler = Autoscaler(spec, 0, 0.0)
        self.stable = SlidingWindow(spec.stable_window_s)
        self.panic = SlidingWindow(panic_window_s(spec.stable_window_s, 10))
        self.scale = first_scale(bounds, 0.0)
        self.starting = []
        self.ready = 0

    def second(self, now_s, concurrency):
        """Let a second pass with so many requests at once in it; decide every other, and at once at zero."""
        self.ready += len([at for at in self.starting if at <= now_s])
        self.starting = [at for at in self.starting if at > now_s]
        if concurrency or self.ready:
            self.stable.record(now_s, concurrency)
            self.panic.record(now_s, concurrency)
        if now_s % 2 == 0 or (concurrency and not self.scale.desired):
            averages = self.stable.average(now_s), self.panic.average(now_s)
            decision = self.autoscaler.scale(now_s, self.ready, *averages)
            self.scale = decide_scale(self.bounds, self.scale, decision, ready_pods=self.ready, now_s=now_s)
            missing = self.scale.desired - self.ready - len(self.starting)
            self.starting += [now_s + 2] * missing
            self.ready = min(self.ready, self.scale.desired)
        return self.scale.desired


def spec(window_s=60.0, **changes):
    return replace(AutoscalerSpec(7.0, 10.0, 211.0, 2.0, 1000.0, 2.0, window_s), **changes)


@pytest.mark.parametrize(
    ("burst_capacity", "bounds", "earliest_s", "latest_s"),
    [(211.0, {}, 60, 65), (-1.0, {}, 60, 65), (0.0, {}, 90, 95), (211.0, {"retention_s": 300.0}, 360, 365)],
)
def test_idle_to_zero_takes_the_window_and_what_the_settings_add(
    burst_capacity, bounds, earliest_s, latest_s
):
    revision = Revision(spec(target_burst_capacity=burst_capacity), Bounds(**bounds))
    for now_s in range(200):
        assert revision.second(now_s, 3 if now_s < 200 else 0) == 1
    idle_s = next(s for s in range(500) if revision.second(200 + s, 0) == 0)
    assert earliest_s <= idle_s <= latest_s


def test_a_burst_goes_to_the_maximum_and_the_quiet_after_it_to_zero():
    revision = Revision(spec(), Bounds(max_scale=10))
    scales = [revision.second(now_s, 200 if 100 <= now_s < 160 else 0) for now_s in range(400)]
    assert scales[99] == 0
    assert scales[100] == scales[160] == 10
    after = scales[160:]
    assert sorted(after, reverse=True) == after
    assert sorted(set(after), reverse=True)[-3:] == [2, 1, 0]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 40)), max_size=12), st.sampled_from([0.0, 211.0])
)
def test_a_revision_is_at_zero_only_when_no_request_came_for_the_window(spans, burst_capacity):
    revision = Revision(
        spec(6.0, target_burst_capacity=burst_capacity), Bounds(stable_window_s=6.0, max_scale=4)
    )
    now_s, last_request_s, before = 0, -1, 1
    for length, concurrency in [*spans, (20, 0), (20, 0), (40, 0)]:
        for _ in range(length):
            desired = revision.second(now_s, concurrency)
            last_request_s = now_s if concurrency else last_request_s
            assert desired <= 4
            assert desired or not concurrency
            if desired == 0 < before:
                assert now_s - last_request_s >= 6
            before, now_s = desired, now_s + 1
    assert before == 0
