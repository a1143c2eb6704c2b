"""How many instances a revision should have: the rules of Knative's own autoscaler (KPA), and nothing else.

Pure: the time is an argument, in seconds of any one clock. What belongs to the bounds (min-scale, max-scale,
initial-scale, scale to zero) is the second step, in bounds.py.

The rules are those of knative/serving, pkg/autoscaler/scaling/autoscaler.go and pkg/autoscaler/aggregation,
down to the order of the sums: what is a hair above a whole number of instances asks for one more there, and
so here.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

#: Decisions of one such span count as one for scale-down-delay; also how often Knative decides.
TICK_S = 2.0
#: No target is smaller: it is divided by.
LEAST_TARGET = 0.01
_PRECISION = 1_000_000
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class AutoscalerSpec:
    """What one revision's autoscaler aims at."""

    #: Load per instance that is aimed at, and the load it can take (requests at once, or per second).
    target_value: float
    total_value: float
    #: Load that must fit in beyond what is there, before the activator leaves the path; -1: it never does.
    target_burst_capacity: float
    #: Wanted to ready instances: from here on it is panic (2.0 is 200 %).
    panic_threshold: float
    #: In one decision at most this many times the ready instances, and at least one such part of them.
    max_scale_up_rate: float
    max_scale_down_rate: float
    stable_window_s: float
    #: Read when the autoscaler is made, as in Knative: a later spec does not change it.
    scale_down_delay_s: float = 0.0
    #: Instances at least as soon as any is wanted; below 2 it means nothing.
    activation_scale: int = 0
    #: No route leads to it any more: it may fall to zero in one decision, and without the delay.
    reachable: bool = True


@dataclass(frozen=True)
class Decision:
    """What the windows ask for. Not valid: nothing is known, so nothing may change."""

    valid: bool
    desired_scale: int
    #: Load that would still fit in after the burst; negative: the activator belongs in the path.
    excess_burst_capacity: int
    #: Why, in words, for a person.
    reason: str = field(default="", compare=False)


def resolve_target(
    container_concurrency: int,
    target: float | None,
    utilization_percent: float,
    default_total: float = 100.0,
) -> tuple[float, float]:
    """Return (target_value, total_value): the load aimed at per instance, and the load one can take.

    Args:
        container_concurrency: Requests at once that an instance is given; 0 is no limit.
        target: The `target` annotation, if there is one; more than the container concurrency does not count.
        utilization_percent: How much of the total is aimed at, above 0 to 100.
        default_total: The total where neither of the two is set.
    """
    total = float(container_concurrency) or default_total
    if target is not None:
        total = min(float(target), float(container_concurrency)) if container_concurrency else float(target)
    return max(LEAST_TARGET, total * (utilization_percent / 100.0)), total


def panic_window_s(stable_window_s: float, percentage: float) -> float:
    """Return the panic window: a part of the stable one in whole seconds, halves upwards, and at least 1."""
    window_ns = int(_ns(stable_window_s) * percentage / 100.0)
    return float(max(1, (window_ns + _SECOND_NS // 2) // _SECOND_NS))


class SlidingWindow:
    """The mean of what was recorded within a window, in buckets of one granularity.

    Values of one bucket are summed, so each source of load (instances, activator) records its own. The sum is
    divided by the buckets from the first to the newest write, at most the window; a gap between two writes
    counts as 0. Record nothing while there is neither an instance nor a request: then the first request
    counts whole, and not as one second of a quiet minute.
    """

    def __init__(self, window_s: float, granularity_s: float = 1.0) -> None:
        self._window_ns = _ns(window_s)
        self._granularity_ns = _ns(granularity_s)
        self._buckets = [0.0] * -(-self._window_ns // self._granularity_ns)
        #: Numbers of buckets since the clock's zero; the newest is None until the first write.
        self._first = 0
        self._newest: int | None = None
        #: Kept as a running sum, because Knative's is: a fresh one can differ in the last digit.
        self._total = 0.0

    def record(self, t: float, value: float) -> None:
        """Add a value to the bucket of its time. One from before the window is ignored."""
        bucket = _ns(t) // self._granularity_ns
        if self._newest is None or self._is_window_apart(self._newest, bucket):
            self._buckets = [0.0] * len(self._buckets)
            self._total = 0.0
            self._first = self._newest = bucket
        elif self._is_window_apart(bucket, self._newest):
            return
        for passed in range(self._newest + 1, bucket + 1):
            self._total -= self._buckets[passed % len(self._buckets)]
            self._buckets[passed % len(self._buckets)] = 0.0
        self._first = min(self._first, bucket)
        self._newest = max(self._newest, bucket)
        self._buckets[bucket % len(self._buckets)] += value
        self._total += value

    def average(self, t: float) -> float:
        """Return the mean at a time, cut after 6 digits; 0 when nothing was written for a whole window.

        A time before the newest write sees all that was written.
        """
        bucket = _ns(t) // self._granularity_ns
        if self._newest is None or self._is_window_apart(self._newest, bucket):
            return 0.0
        total = self._total
        for passed in range(self._newest + 1, bucket + 1):
            total -= self._buckets[passed % len(self._buckets)]
        left = len(self._buckets) - max(0, bucket - self._newest)
        count = min(self._newest - self._first + 1, left)
        return math.floor(total / count * _PRECISION) / _PRECISION

    def _is_window_apart(self, earlier: int, later: int) -> bool:
        return (later - earlier) * self._granularity_ns >= self._window_ns


class _Delay:
    """The highest scale within a delay, in buckets of one tick."""

    def __init__(self, delay_s: float) -> None:
        self._tick_ns = _ns(TICK_S)
        self._length = -(-_ns(delay_s) // self._tick_ns)
        #: (bucket, scale): buckets ascend and scales descend, so the first is the highest.
        self._highest: deque[tuple[int, int]] = deque()

    def record(self, now: float, scale: int) -> int:
        """Remember a scale and return the highest; two in one bucket count as the higher of them."""
        bucket = _ns(now) // self._tick_ns
        while self._highest and self._highest[-1][1] <= scale:
            self._highest.pop()
        while self._highest and bucket - self._highest[0][0] >= self._length:
            self._highest.popleft()
        self._highest.append((bucket, scale))
        return self._highest[0][1]


class Autoscaler:
    """Decides for one revision. Not thread-safe; times must not go backwards.

    `spec` may be replaced between two decisions.
    """

    def __init__(self, spec: AutoscalerSpec, ready_pods: int | None, now: float) -> None:
        self.spec = spec
        ready = ready_pods or 0
        #: When panic began or was last renewed; None outside panic. With several instances ready it begins at
        #: once: there is no history yet, and they must not be lost for that.
        self.panic_since: float | None = now if ready > 1 else None
        self._max_panic_pods = ready
        self._delay = _Delay(spec.scale_down_delay_s) if spec.scale_down_delay_s > 0 else None

    def scale(
        self, now: float, ready_pods: int | None, stable: float | None, panic: float | None
    ) -> Decision:
        """Decide from the averages over the stable and the panic window and the number of ready instances.

        Any of them None means unknown: the decision is not valid, and what is remembered stays as it was.
        """
        if ready_pods is None or stable is None or panic is None:
            return Decision(valid=False, desired_scale=0, excess_burst_capacity=0, reason="no data yet")
        ready = max(1, ready_pods)
        stable_wanted = math.ceil(stable / self.spec.target_value)
        panic_wanted = math.ceil(panic / self.spec.target_value)
        self._renew_panic(now, is_over=panic_wanted / ready >= self.spec.panic_threshold)
        desired, reason = self._limit(stable_wanted, ready, f"stable window average {stable:.6g}")
        if self.panic_since is not None:
            for_panic, reason_for_panic = self._limit(
                panic_wanted, ready, f"panic window average {panic:.6g}"
            )
            if for_panic > desired:
                desired, reason = for_panic, reason_for_panic
            reason = f"panic: {reason}"
            if desired < self._max_panic_pods:
                desired, reason = self._max_panic_pods, f"panic holds {self._max_panic_pods}"
            self._max_panic_pods = desired
        if self._delay is not None and self.spec.reachable:
            delayed = self._delay.record(now, desired)
            if delayed > desired:
                desired, reason = delayed, f"scale-down-delay keeps {delayed}; {reason}"
        return Decision(
            valid=True,
            desired_scale=desired,
            excess_burst_capacity=self._excess_burst_capacity(ready_pods, panic),
            reason=reason,
        )

    def _limit(self, wanted: int, ready: int, load: str) -> tuple[int, str]:
        """Keep what is wanted within the rates, and lift it to the activation scale where any is wanted."""
        reason = f"{load} wants {wanted}"
        least = math.floor(ready / self.spec.max_scale_down_rate) if self.spec.reachable else 0
        most = math.ceil(self.spec.max_scale_up_rate * ready)
        limited = min(max(wanted, least), most)
        if limited > wanted:
            reason = f"max-scale-down-rate keeps {limited}; {reason}"
        elif limited < wanted:
            reason = f"max-scale-up-rate allows {limited}; {reason}"
        if self.spec.activation_scale > 1 and wanted > 0 and limited < self.spec.activation_scale:
            return self.spec.activation_scale, f"activation-scale {self.spec.activation_scale}; {reason}"
        return limited, reason

    def _renew_panic(self, now: float, *, is_over: bool) -> None:
        """Begin panic or restart its clock while over the threshold; end it a stable window after that."""
        if is_over or self.panic_since is None:
            self.panic_since = now if is_over else None
            return
        # Strictly longer ago: exactly one window later it is still panic.
        if _ns(now) - _ns(self.panic_since) > _ns(self.spec.stable_window_s):
            self.panic_since = None
            self._max_panic_pods = 0

    def _excess_burst_capacity(self, ready_pods: int, panic: float) -> int:
        if self.spec.target_burst_capacity == 0:
            return 0
        if self.spec.target_burst_capacity < 0:
            return -1
        return math.floor(ready_pods * self.spec.total_value - self.spec.target_burst_capacity - panic)


def _ns(seconds: float) -> int:
    """Return whole nanoseconds, so that the edges of windows are exact for any fraction of a second."""
    return round(seconds * _SECOND_NS)
