"""Admission: whether an upload may publish now, or is slowed down, or refused before etcd is full.

A queue that grows faster than it is moved ends with an etcd over its quota, which then takes not even the
claims that would empty it. So publishing is slowed down from half of a high-water mark on and refused at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shared.errors import NoSpace, PipelineError, Transient

#: The longest that one publish is delayed, just below a mark.
MAX_DELAY_S = 0.25
#: The share of etcd's quota from which on nothing is accepted: the rest is room to claim, move and fold.
MAX_DATABASE_SHARE = 0.6
#: Seconds after the queue was moved empty in which compaction may still free what it took.
FREEING_S = 120.0
#: What a client is told to wait at a mark of the queue, and at that of the database.
QUEUE_RETRY_AFTER_S, DATABASE_RETRY_AFTER_S = 5, 15
#: etcd's own default, for one that does not tell its quota.
DEFAULT_QUOTA_BYTES = 2 * 1024**3

_FREE_SPACE = "lower RETENTION, delete uploads, or raise etcd's quota"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The high-water marks."""

    messages: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How queue and database stood when they were read."""

    messages: int
    bytes: int
    #: Seconds since the queue last held a message; infinite where that is not known.
    empty_s: float
    database_bytes: int
    #: Zero or less: without a quota.
    quota_bytes: int
    space_alarm: bool
    #: Dead letters: they keep their payloads until somebody decides.
    dead: int = 0


class Decision(NamedTuple):
    """Accept after a delay, or refuse."""

    delay_s: float = 0.0
    refusal: PipelineError | None = None


def decide_admission(now: Reading, limits: Limits) -> Decision:
    """Decide whether a publish is accepted: at once, after a delay, or not."""
    if now.space_alarm:
        return Decision(refusal=NoSpace(f"etcd is over its quota and takes nothing more: {_way_out(now)}"))
    refusal = _refuse_for_database(now) or _refuse_for_queue(now, limits)
    if refusal is not None:
        return Decision(refusal=refusal)
    fullness = max(now.messages / limits.messages, now.bytes / limits.bytes)
    return Decision(delay_s=MAX_DELAY_S * min(max(fullness * 2 - 1, 0.0), 1.0))


def _way_out(now: Reading) -> str:
    letters = f"replay or drop the {now.dead} dead letters, " if now.dead else ""
    return letters + _FREE_SPACE


def _refuse_for_database(now: Reading) -> PipelineError | None:
    if now.quota_bytes <= 0 or now.database_bytes < MAX_DATABASE_SHARE * now.quota_bytes:
        return None
    fact = (
        f"etcd has {now.database_bytes} bytes in use, over {MAX_DATABASE_SHARE:.0%} of its quota of "
        f"{now.quota_bytes}"
    )
    details = {"database_bytes": now.database_bytes, "quota_bytes": now.quota_bytes}
    if not now.messages and now.empty_s >= FREEING_S:
        return NoSpace(f"{fact}, and nothing waits to be moved: {_way_out(now)}", **details)
    exc = Transient(f"{fact}: try again when what waits is moved and compacted", **details)
    exc.retry_after_s = DATABASE_RETRY_AFTER_S
    return exc


def _refuse_for_queue(now: Reading, limits: Limits) -> PipelineError | None:
    for what, held, most, setting in (
        ("messages", now.messages, limits.messages, "MAX_QUEUE_MESSAGES"),
        ("bytes", now.bytes, limits.bytes, "MAX_QUEUE_BYTES"),
    ):
        if held >= most:
            exc = Transient(
                f"the queue holds {held} {what}, and {setting} is {most}: try again when some are moved",
                setting=setting,
                limit=most,
                held=held,
            )
            exc.retry_after_s = QUEUE_RETRY_AFTER_S
            return exc
    return None
