"""The clock of the ticks: a sweep whose clock is not to be trusted deletes nothing.

Each tick writes its time into one key. Where two ticks in a row are more than ten minutes apart, either way,
one of the clocks is wrong, or nothing ticked for a while: nothing is swept until three in a row agree. So one
wrong clock among many collectors deletes nothing, and a pipeline that was off sweeps three ticks later.

A tick that comes as an event also brings its source's time. Where that is far from ours, ours is wrong, or
the source's: the tick does not count, however often it comes. Where they agree, two clocks say the same: the
first tick of all may sweep, and time that passed without an upload counts (retention.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

#: How far two ticks may be apart to agree, and how many in a row must.
MOST_APART_MS = 10 * 60_000
ENOUGH = 3
#: How much of etcd's history is left for watches that were cut off.
HISTORY_MS = 60_000
#: Ticks whose revisions are remembered.
_REMEMBERED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What the ticks wrote down."""

    #: Time of the last tick, epoch ms; None before the first.
    at_ms: int | None = None
    #: How many in a row agree, the last one counted.
    agreed: int = 0
    #: (epoch ms, revision of etcd) of the last ticks, oldest first.
    revisions: tuple[tuple[int, int], ...] = ()


def parse_clock(value: bytes | None) -> Clock:
    """Read the key; a Clock without a time where there is none."""
    if value is None:
        return Clock()
    fields = orjson.loads(value)
    revisions = tuple((int(ms), int(revision)) for ms, revision in fields["revisions"])
    return Clock(at_ms=fields["at_ms"], agreed=fields["agreed"], revisions=revisions)


def build_clock(clock: Clock) -> bytes:
    """Build what the key holds."""
    return orjson.dumps({"at_ms": clock.at_ms, "agreed": clock.agreed, "revisions": clock.revisions})


def disagrees(clock: Clock, now_ms: int) -> bool:
    """Tell whether a time cannot follow the last tick."""
    return clock.at_ms is not None and abs(now_ms - clock.at_ms) > MOST_APART_MS


def tick(clock: Clock, now_ms: int, revision: int, event_ms: int | None = None) -> Clock:
    """Write a tick down; `event_ms` is what its source says the time is."""
    if event_ms is not None and abs(now_ms - event_ms) > MOST_APART_MS:
        return clock
    revisions = (*clock.revisions, (now_ms, revision))[-_REMEMBERED:]
    if disagrees(clock, now_ms):
        agreed = 1
    elif clock.at_ms is None and event_ms is not None:
        agreed = ENOUGH
    else:
        agreed = min(clock.agreed + 1, ENOUGH)
    return Clock(at_ms=now_ms, agreed=agreed, revisions=revisions)


def may_sweep(clock: Clock, now_ms: int) -> bool:
    """Tell whether the tick that was just written down, at that time, may sweep."""
    return clock.at_ms == now_ms and clock.agreed >= ENOUGH


def decide_history(clock: Clock, now_ms: int) -> int | None:
    """Decide up to which revision etcd may forget its history: what a tick a minute ago saw, or None."""
    old = [revision for ms, revision in clock.revisions if now_ms - ms >= HISTORY_MS]
    return max(old, default=None)
