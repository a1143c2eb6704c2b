"""The event by which the queue source tells collect which messages to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.errors import InvalidInput, PipelineError
from shared.queue import ReadyMessage

#: The CloudEvent's type.
MESSAGES_TYPE = "io.gpu-telemetry.queue.messages"
#: More than a request works through within its budget.
MAX_MESSAGES = 1000


def build_messages(messages: Sequence[ReadyMessage]) -> dict[str, Any]:
    """Build the event's data: all that a claim needs, so that collect does not ask first."""
    return {
        "messages": [
            {"id": m.id, "bytes": m.bytes, "rows": m.rows, "attempts": m.attempts, "revision": m.revision}
            for m in messages
        ]
    }


def parse_messages(data: Any) -> list[ReadyMessage]:
    """Read the event's data.

    Raises:
        InvalidInput: Not such data.
    """
    try:
        out = [
            ReadyMessage(
                id=str(m["id"]),
                bytes=int(m["bytes"]),
                rows=int(m["rows"]),
                attempts=int(m["attempts"]),
                revision=int(m["revision"]),
            )
            for m in data["messages"]
        ]
        for message in out:
            _ = message.upload_id, message.received_ms
    except (TypeError, KeyError, ValueError, PipelineError) as exc:
        raise InvalidInput(
            "the event does not say which messages: id, bytes, rows, attempts, revision"
        ) from exc
    if len(out) > MAX_MESSAGES:
        raise InvalidInput(f"the event names {len(out)} messages, at most {MAX_MESSAGES} are taken")
    return out
