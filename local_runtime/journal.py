"""The last scaling decisions, with their reasons: what GET /events answers and `top` shows."""

from __future__ import annotations

from collections import deque

from shared import clock

#: Decisions that are kept.
MOST_EVENTS = 500


class Journal:
    """A bounded list of events, the newest last."""

    def __init__(self) -> None:
        self._events: deque[dict[str, object]] = deque(maxlen=MOST_EVENTS)

    def add(self, service: str, action: str, reason: str, *, before: int, after: int) -> None:
        """Note a decision, or what became of an instance.

        Args:
            service: Its name.
            action: scaled, replaced; of an instance: ready, unready, killed, ended.
            reason: In words.
            before: Instances that were wanted.
            after: Instances that are wanted.
        """
        self._events.append(
            {
                "at": clock.format_utc(clock.now_s()),
                "service": service,
                "action": action,
                "reason": reason,
                "from": before,
                "to": after,
            }
        )

    def describe(self) -> list[dict[str, object]]:
        """List the events, the newest last."""
        return list(self._events)
