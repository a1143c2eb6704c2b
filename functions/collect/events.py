"""The event by which the queue source tells collect which messages to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.errors import InvalidInput
from shared.keys import is_day, is_message_id
from shared.queue import ReadyMessage, describe

#: The CloudEvent's type.
MESSAGES_TYPE = "io.gpu-telemetry.queue.messages"
_NUMBERS = ("bytes", "rows", "attempts", "revision")
_EXPECTED = "the event does not say which messages: a list of id, " + ", ".join(_NUMBERS)
#: More than a request works through within its budget.
MAX_MESSAGES = 1000


def build_messages(messages: Sequence[ReadyMessage]) -> dict[str, Any]:
    """Build the event's data: all that a claim needs, so that collect does not ask first."""
    return {"messages": [describe(m) for m in messages]}


def parse_messages(data: Any) -> list[ReadyMessage]:
    """Read the event's data.

    Raises:
        InvalidInput: Not such data.
    """
    listed = data.get("messages") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise InvalidInput(_EXPECTED)
    if len(listed) > MAX_MESSAGES:
        raise InvalidInput(f"the event names {len(listed)} messages, at most {MAX_MESSAGES} are taken")
    out = {}
    for described in listed:
        if not isinstance(described, dict) or not is_message_id(described.get("id")):
            raise InvalidInput(_EXPECTED)
        numbers: dict[str, Any] = {name: described.get(name) for name in _NUMBERS}
        if not all(type(n) is int and 0 <= n < 2**62 for n in numbers.values()):
            raise InvalidInput(_EXPECTED)
        day = described.get("day", "")
        if day != "" and not is_day(day):
            raise InvalidInput(_EXPECTED)
        out[described["id"]] = ReadyMessage(id=described["id"], replay_day=day, **numbers)
    return list(out.values())
