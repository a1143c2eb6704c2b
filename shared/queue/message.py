"""What the queue says of a message: its description in etcd, in the bell and in events. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from shared.keys import ingestion_day, parse_message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyMessage:
    """What the queue knows of a message without reading it."""

    id: str
    #: Size of the payload.
    bytes: int
    rows: int
    #: How often it was claimed before.
    attempts: int
    #: The revision of its ready key: a claim that was told another one fails.
    revision: int
    #: The UTC day, YYYYMMDD, it is filed under where that is not its upload's: replayed, or long in coming.
    filed_day: str = ""

    @property
    def upload_id(self) -> str:
        """The upload it is part of."""
        return parse_message_id(self.id)[0]

    @property
    def received_ms(self) -> int:
        """When its upload was received, epoch ms."""
        return int(self.id[:12], 16)

    @property
    def day(self) -> str:
        """The day its records are stored under, which retention goes by.

        That of the upload, or a later one: else what is replayed late would be swept at once.
        """
        return self.filed_day or ingestion_day(self.received_ms)

    def filed_from(self, day: str) -> ReadyMessage:
        """Return the message, filed under a day if its own is earlier."""
        return self if self.day >= day else replace(self, filed_day=day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to commit one message, for as long as the lease lives."""

    message: ReadyMessage
    payload: bytes
    #: The create_revision of the claim's key: what proves that it is still mine.
    revision: int


def describe(message: ReadyMessage) -> dict[str, Any]:
    """Say of a message all that a claim needs: what the bell and the events carry."""
    described: dict[str, Any] = {
        "id": message.id,
        "bytes": message.bytes,
        "rows": message.rows,
        "attempts": message.attempts,
        "revision": message.revision,
    }
    if message.filed_day:
        described["day"] = message.filed_day
    return described


def build_ready(message: ReadyMessage, *, attempts: int, by: int = 0) -> bytes:
    """Build the value of a ready key; `by` is the lease of whoever claimed it last, 0 for nobody."""
    value: dict[str, Any] = {"bytes": message.bytes, "rows": message.rows, "attempts": attempts}
    if by:
        value["by"] = by
    if message.filed_day:
        value["day"] = message.filed_day
    return orjson.dumps(value)


def parse_ready(message: str, value: bytes, revision: int) -> ReadyMessage:
    """Read the value of a ready key."""
    fields = orjson.loads(value)
    return ReadyMessage(
        id=message,
        bytes=fields["bytes"],
        rows=fields["rows"],
        attempts=fields["attempts"],
        revision=revision,
        filed_day=fields.get("day", ""),
    )


def parse_claimer(value: bytes) -> int:
    """Read from the value of a ready key the lease of whoever claimed it last, 0 for nobody."""
    return int(orjson.loads(value).get("by", 0))


def build_bell(messages: Iterable[ReadyMessage]) -> bytes:
    """Build the bell that names messages just put; one of revision 0 is of the bell's own revision."""
    described = [describe(m) for m in messages]
    for d in described:
        if not d["revision"]:
            del d["revision"]
    return orjson.dumps({"messages": described})


def parse_bell(value: bytes, revision: int) -> list[ReadyMessage]:
    """Read from the bell which messages were published, or released, at that revision."""
    return [
        ReadyMessage(
            id=m["id"],
            bytes=m["bytes"],
            rows=m["rows"],
            attempts=m["attempts"],
            revision=m.get("revision", revision),
            filed_day=m.get("day", ""),
        )
        for m in orjson.loads(value)["messages"]
    ]
