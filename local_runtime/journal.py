"""The last scaling decisions, with their reasons: what GET /events answers and `top` shows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from shared import clock

#: Decisions that are kept.
MOST_EVENTS = 500


@dataclass(frozen=True, kw_only=True)
class Event:
    """One decision: how many instances there should be, or what became of one."""

    at: str
    service: str
    #: scaled, cold_start, ended, killed, replaced
    action: str
    reason: str
    before: int
    after: int

    def describe(self) -> dict[str, object]:
        """Turn it into what JSON takes."""
        return {
            "at": self.at,
            "service": self.service,
            "action": self.action,
            "reason": self.reason,
            "from": self.before,
            "to": self.after,
        }


class Journal:
    """A bounded list of events, the newest last."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)

    def add(self, service: str, action: str, reason: str, *, before: int, after: int) -> None:
        """Note what was decided; `before` and `after` are numbers of wanted instances."""
        at = datetime.fromtimestamp(clock.now_s(), UTC).isoformat(timespec="milliseconds")
        self._events.append(
            Event(
                at=at.replace("+00:00", "Z"),
                service=service,
                action=action,
                reason=reason,
                before=before,
                after=after,
            )
        )

    def describe(self) -> list[dict[str, object]]:
        """List the events, the newest last."""
        return [event.describe() for event in self._events]
