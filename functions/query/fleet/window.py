"""Over which window a fleet question is answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from shared.clock import MAX_TIME_MS

#: The window where none is given.
HOUR_MS = 3_600_000
#: The clock is taken in such steps: within one, the same question is the same question.
STEP_MS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWindow:
    """A half-open window of time, [start, end), epoch ms, and why it is this one."""

    start_ms: int
    end_ms: int
    basis: Literal["given", "clock", "latest"]
    #: When it is, in whole steps.
    now_ms: int

    def until_ms(self) -> int:
        """Return when the window ended, or now where it has not ended yet: silence is measured up to it."""
        return min(self.end_ms, self.now_ms)

    def render(self) -> dict[str, str]:
        """Write it into an answer."""
        return {
            "start_time": format_ms(self.start_ms),
            "end_time": format_ms(self.end_ms),
            "basis": self.basis,
        }


def choose_window(start: int | None, end: int | None, now_ms: int, newest_ms: int | None) -> FleetWindow:
    """Choose the window: what was given, else the last hour, else the newest that is stored.

    Args:
        start: The start that was given.
        end: The end that was given.
        now_ms: The clock.
        newest_ms: The time of the newest record of all, None where there is none.
    """
    now = -(-now_ms // STEP_MS) * STEP_MS
    if start is not None or end is not None:
        last = _clamp(max(now, start or 0) if end is None else end)
        first = last - HOUR_MS if start is None else _clamp(start)
        return FleetWindow(start_ms=_clamp(first), end_ms=last, basis="given", now_ms=now)
    if newest_ms is not None and newest_ms < now - HOUR_MS:
        last = (newest_ms // 1000 + 1) * 1000
        return FleetWindow(start_ms=last - HOUR_MS, end_ms=last, basis="latest", now_ms=now)
    return FleetWindow(start_ms=now - HOUR_MS, end_ms=now, basis="clock", now_ms=now)


def _clamp(ms: int) -> int:
    """Keep a time within those that records can have, and that can be written."""
    return min(max(ms, 0), MAX_TIME_MS)


def format_ms(ms: int) -> str:
    """Write an epoch time in milliseconds as RFC 3339, with decimals only where it has a fraction."""
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(
        timespec="milliseconds" if ms % 1000 else "seconds"
    )
    return text.replace("+00:00", "Z")


def format_known(ms: int | None) -> str | None:
    """Write a time that may not be known."""
    return None if ms is None else format_ms(ms)
