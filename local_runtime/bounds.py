"""From what the autoscaler wants to how many instances there shall be: the second step, pure as the first.

It applies min-scale, max-scale and initial-scale, and it alone decides about the last instance. The rules are
those of knative/serving, pkg/reconciler/autoscaling/kpa (scaler.go and kpa.go). How it is used:

    scale = first_scale(bounds, now_s)                    # start scale.desired instances
    ...
    decision = autoscaler.scale(now_s, ready, stable, panic)
    scale = decide_scale(bounds, scale, decision, ready_pods=ready, now_s=now_s)
    # now there shall be scale.desired instances; scale.reason says why

every tick, and at once when a request begins to wait in front of zero instances: the arrival makes the
decision want one, and that brings back an instance at whatever stage of going to zero. The three phases:

    activating --enough are ready--> active --none is wanted, and it was active for the window--> inactive
         ^                             ^                                                              |
         +------ one is wanted --------+------------------ one is wanted, and it is ready -----------+

The last instance goes while inactive: once it was kept for the retention period, and the activator has been
in the path for the grace period. With the default target burst capacity it always is, so idle to zero takes
the window that must run empty and a decision or two; with target-burst-capacity 0 the grace period comes on
top.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from local_runtime.autoscaler import Decision


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What bounds a revision's scale; the defaults are Knative's."""

    min_scale: int = 0
    #: 0 is no limit.
    max_scale: int = 0
    #: Instances it starts with; until so many were ready once, it does not scale lower.
    initial_scale: int = 1
    stable_window_s: float = 60.0
    grace_period_s: float = 30.0
    #: How long the last instance is kept at least, after the revision became inactive.
    retention_s: float = 0.0
    scale_to_zero: bool = True
    #: What nobody wants and could not start for so long goes to zero (progress deadline, and 10 s more).
    activation_timeout_s: float = 610.0


class Phase(StrEnum):
    """Where a revision stands between zero and serving."""

    #: Fewer instances are ready than it takes to be active.
    ACTIVATING = "activating"
    #: min-scale instances, and at least one, are ready.
    ACTIVE = "active"
    #: None is wanted; the last one may still be there.
    INACTIVE = "inactive"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many instances there shall be and why, with what the next decision must know of this one."""

    desired: int
    reason: str
    phase: Phase
    phase_since_s: float
    #: Since when requests have gone through the activator, were this a cluster; None while they would not.
    in_path_since_s: float | None
    #: The initial scale was reached once.
    is_initialized: bool = False


def first_scale(bounds: Bounds, now_s: float) -> Scale:
    """Return the scale of a revision that was just made."""
    desired = _clamp(bounds, max(bounds.min_scale, bounds.initial_scale))
    return Scale(
        desired=desired,
        reason=f"initial-scale {bounds.initial_scale}",
        phase=Phase.ACTIVATING if desired else Phase.INACTIVE,
        phase_since_s=now_s,
        in_path_since_s=None if desired else now_s,
    )


def decide_scale(bounds: Bounds, last: Scale, decision: Decision, *, ready_pods: int, now_s: float) -> Scale:
    """Return how many instances there shall be, from what was decided last and what the autoscaler wants now.

    A decision that is not valid changes nothing but what the bounds demand. The result is never above
    max-scale, and zero only as the head of this file says.
    """
    last = _note_ready(bounds, last, ready_pods, now_s)
    if not decision.valid:
        desired, reason = _bound(bounds, last, last.desired, decision.reason)
        return replace(last, desired=desired, reason=reason)
    desired, reason = _bound(bounds, last, decision.desired_scale, decision.reason)
    if desired == 0 and not bounds.scale_to_zero:
        desired, reason = 1, "held at 1: enable-scale-to-zero is false"
    if desired and last.phase is Phase.INACTIVE:
        last = _note_ready(bounds, _enter(last, Phase.ACTIVATING, now_s), ready_pods, now_s)
    last = _note_path(last, now_s, is_in_path=decision.excess_burst_capacity < 0)
    if desired:
        return replace(last, desired=desired, reason=reason)
    return _decide_zero(bounds, last, reason, now_s)


def _note_ready(bounds: Bounds, last: Scale, ready_pods: int, now_s: float) -> Scale:
    """Note what became of the instances that were asked for."""
    needed = max(1, bounds.min_scale)
    if not last.is_initialized:
        needed = max(needed, bounds.initial_scale)
    is_enough = ready_pods >= _clamp(bounds, needed)
    last = replace(last, is_initialized=last.is_initialized or is_enough)
    if last.phase is Phase.INACTIVE:
        return last
    return _enter(last, Phase.ACTIVE if is_enough else Phase.ACTIVATING, now_s)


def _bound(bounds: Bounds, last: Scale, wanted: int, reason: str) -> tuple[int, str]:
    least, name = bounds.min_scale, "min-scale"
    # An initial scale of 1 binds nobody: the last instance is a matter of its own.
    if not last.is_initialized and bounds.initial_scale > max(1, least):
        least, name = bounds.initial_scale, "initial-scale"
    bounded = _clamp(bounds, max(least, wanted))
    if bounded > wanted:
        return bounded, f"{name} {least}; {reason}"
    if bounded < wanted:
        return bounded, f"max-scale {bounds.max_scale}; {reason}"
    return bounded, reason


def _decide_zero(bounds: Bounds, last: Scale, reason: str, now_s: float) -> Scale:
    """None is wanted: say whether the last instance may go, or what it waits for."""
    for_s = now_s - last.phase_since_s
    if last.phase is Phase.ACTIVATING:
        if for_s < bounds.activation_timeout_s:
            desired = _clamp(bounds, last.desired)
            return replace(last, desired=desired, reason=f"held at {desired}: starting for {int(for_s)} s")
        reason, last = f"not ready within {bounds.activation_timeout_s:.0f} s", replace(last, desired=0)
    elif last.phase is Phase.ACTIVE and for_s < bounds.stable_window_s:
        waits = f"active for {int(for_s)} s of {bounds.stable_window_s:.0f}"
        return replace(last, desired=1, reason=f"held at 1: {waits}")
    # From here on requests go through the activator, whatever the burst capacity says.
    last = _note_path(_enter(last, Phase.INACTIVE, now_s), now_s, is_in_path=True)
    waits = _waits_for(bounds, last, now_s)
    if last.desired and waits:
        return replace(last, desired=1, reason=f"held at 1: {waits}")
    return replace(last, desired=0, reason=reason)


def _waits_for(bounds: Bounds, last: Scale, now_s: float) -> str:
    inactive_s = now_s - last.phase_since_s
    in_path_s = 0.0 if last.in_path_since_s is None else now_s - last.in_path_since_s
    if inactive_s < bounds.retention_s:
        return f"kept for {int(inactive_s)} s of {bounds.retention_s:.0f}"
    if in_path_s < bounds.grace_period_s:
        return f"activator in the path for {int(in_path_s)} s of {bounds.grace_period_s:.0f}"
    return ""


def _enter(last: Scale, phase: Phase, now_s: float) -> Scale:
    return last if last.phase is phase else replace(last, phase=phase, phase_since_s=now_s)


def _note_path(last: Scale, now_s: float, *, is_in_path: bool) -> Scale:
    # At zero, and while the last instance is going, the activator is in the path in any case.
    if not is_in_path and last.phase is not Phase.INACTIVE:
        return replace(last, in_path_since_s=None)
    return last if last.in_path_since_s is not None else replace(last, in_path_since_s=now_s)


def _clamp(bounds: Bounds, scale: int) -> int:
    return min(scale, bounds.max_scale) if bounds.max_scale else scale
