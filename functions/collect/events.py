"""The events that collect takes: a tick, or the queue source's word which messages to take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Request

from shared.errors import InvalidInput
from shared.http import read_body
from shared.keys import ingestion_day, is_day, is_message_id
from shared.queue import ReadyMessage, describe

#: The CloudEvent's type.
MESSAGES_TYPE = "io.gpu-telemetry.queue.messages"
_NUMBERS = ("bytes", "rows", "attempts", "revision")
_EXPECTED = "the event does not say which messages: a list of id, " + ", ".join(_NUMBERS)
_MAX_EVENT_BYTES = 1024 * 1024
_DAY_MS = 86_400_000
#: More than a request works through within its budget.
MAX_MESSAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A CloudEvent, or a request that is none: then all is empty."""

    kind: str = ""
    data: Any = None
    #: When its source says that it happened, epoch ms.
    at_ms: int | None = None


def decide_earliest_day(now_ms: int, event_ms: int | None) -> str:
    """Decide the earliest ingestion day that messages are filed under: yesterday, as two clocks have it.

    What waited longer than RETENTION, or came from an upload whose clock is slow, would else be swept as soon
    as it is stored. A clock that is ahead must not file under days to come: then those of today would look
    old. So the earlier of two clocks counts, and without an event's no message is filed anew.
    """
    return "" if event_ms is None else ingestion_day(max(min(now_ms, event_ms) - _DAY_MS, 0))


def read_event(request: Request) -> Event:
    """Read a CloudEvent, binary or structured.

    Raises:
        InvalidInput: It claims to be one and is not.
    """
    if (request.content_length or 0) > _MAX_EVENT_BYTES:
        raise InvalidInput(f"an event has at most {_MAX_EVENT_BYTES} bytes")
    body = read_body(request, _MAX_EVENT_BYTES)
    kind = request.headers.get("ce-type", "")
    structured = request.mimetype == "application/cloudevents+json"
    if not kind and not structured:
        return Event()
    try:
        data = json.loads(body) if body.strip() else None
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"the event's data is not JSON: {exc}") from exc
    if not structured:
        return Event(kind=kind, data=data, at_ms=_parse_time_ms(request.headers.get("ce-time")))
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise InvalidInput("a structured CloudEvent is a JSON object with a type")
    return Event(kind=data["type"], data=data.get("data"), at_ms=_parse_time_ms(data.get("time")))


def _parse_time_ms(text: object) -> int | None:
    """Read an event's time; one that is none witnesses nothing."""
    try:
        return int(datetime.fromisoformat(str(text)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


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
        out[described["id"]] = ReadyMessage(id=described["id"], filed_day=day, **numbers)
    return list(out.values())
