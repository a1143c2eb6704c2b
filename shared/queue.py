"""The queue: publish, claim, release, bury; and the queue's half of the move into the store.

A message is delivered at least once and committed exactly once: whoever moves it proves, inside the
transaction that deletes it, that the claim is still its own. A claim is bound to a lease (the visibility
timeout), so a collector that dies gives its messages back without anybody's help. This module owns the keys
below queue/ and knows nothing of the store. See shared/keys.py for the layout.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from shared.errors import Conflict, PipelineError, Transient
from shared.etcd import (
    Compare,
    Delete,
    Etcd,
    Get,
    KeyValue,
    LeaseGone,
    Operation,
    Put,
    Watch,
    absent,
    prefix_end,
)
from shared.keys import Keys, parse_message_id

log = logging.getLogger(__name__)

#: etcd refuses a request over 1.5 MiB; a message stays well below, so that a move of it fits too.
MAX_MESSAGE_BYTES = 1_000_000
#: Messages in one claim or one move: each takes three operations of etcd's 128, and the store some too.
MAX_MESSAGES_PER_CLAIM = 32
#: Seconds for which a publish is repeated while etcd is away; an upload must answer within 3 s.
PUBLISH_RETRY_S = 2.4
#: How many ready messages one listing reads.
PAGE = 1000
#: How often a message may be claimed before it is buried as a dead letter.
MAX_ATTEMPTS = 5


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

    @property
    def upload_id(self) -> str:
        """The upload it is part of."""
        return parse_message_id(self.id)[0]

    @property
    def received_ms(self) -> int:
        """When its upload was received, epoch ms."""
        return int(self.id[:12], 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to commit one message, for as long as the lease lives."""

    message: ReadyMessage
    payload: bytes
    #: The create_revision of the claim's key: what proves that it is still mine.
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What waits in the queue; claimed messages are counted in depth and bytes too."""

    depth: int
    bytes: int
    oldest_age_s: float
    claimed: int
    dead: int


def describe(message: ReadyMessage) -> dict[str, Any]:
    """Say of a message all that a claim needs: what the bell and the events carry."""
    return asdict(message)


def _ready_value(*, size: int, rows: int, attempts: int) -> bytes:
    return orjson.dumps({"bytes": size, "rows": rows, "attempts": attempts})


def parse_ready(message: str, value: bytes, revision: int) -> ReadyMessage:
    """Read the value of a ready key."""
    fields = orjson.loads(value)
    return ReadyMessage(
        id=message,
        bytes=fields["bytes"],
        rows=fields["rows"],
        attempts=fields["attempts"],
        revision=revision,
    )


class Lease:
    """The lease that one worker binds its claims to; one per thread, renewed as it works.

    A worker that hangs does not renew, and its messages go back to the queue.
    """

    def __init__(self, etcd: Etcd, ttl_s: float) -> None:
        self._etcd = etcd
        self._ttl_s = int(ttl_s)
        self._id = 0
        self._until = 0.0

    def renewed(self) -> int:
        """Return the id of a lease with at least half its time left, granting or renewing as needed."""
        now = time.monotonic()
        if self._id and self._until - now > self._ttl_s / 2:
            return self._id
        if self._id and self._until > now:
            left_s = self._etcd.lease_keepalive(self._id)
            if left_s > 0:
                self._until = now + left_s
                return self._id
        self._id = self._etcd.lease_grant(self._ttl_s)
        self._until = now + self._ttl_s
        return self._id

    def forget(self) -> None:
        """Stop using a lease that is gone; the next use grants another."""
        self._id = 0

    def give_back(self) -> None:
        """Revoke the lease, so that whatever is claimed under it is free at once; never fails."""
        lease, self._id = self._id, 0
        if lease:
            try:
                self._etcd.lease_revoke(lease)
            except PipelineError:
                log.info("could not revoke a lease; it ends by itself", extra={"action": "lease_left"})


class Queue:
    """The message queue of one pipeline; safe to share between threads.

    Raises Transient from any call when etcd is away: an outage is never reported as an empty queue.
    """

    def __init__(self, etcd: Etcd, keys: Keys) -> None:
        self._etcd = etcd
        self._keys = keys

    def publish(self, message: str, payload: bytes, *, rows: int, also: Sequence[Put] = ()) -> None:
        """Put a message, its description, the bell and `also` in one transaction; durable on return.

        Idempotent: while etcd is away it is repeated for PUBLISH_RETRY_S, on the condition that the
        message is not there yet. One that was moved in between is published again, and its rows, being
        of the same version, change nothing.

        Raises:
            Transient: etcd stayed away; the message may or may not be in the queue.
        """
        ready = _ready_value(size=len(payload), rows=rows, attempts=0)
        described = [{"id": message, "bytes": len(payload), "rows": rows, "attempts": 0}]
        operations: list[Operation] = [
            Put(self._keys.ready(message), ready),
            Put(self._keys.payload(message), payload),
            Put(self._keys.queue_bell, orjson.dumps({"messages": described})),
            *also,
        ]
        deadline = time.monotonic() + PUBLISH_RETRY_S
        while True:
            left_s = deadline - time.monotonic()
            try:
                self._etcd.txn([absent(self._keys.ready(message))], operations, also, timeout_s=left_s)
            except Transient:
                if deadline - time.monotonic() < 0.2:  # noqa: PLR2004
                    raise
                threading.Event().wait(0.1)
            else:
                return

    def list_ready(self, *, after: str = "", limit: int = PAGE) -> list[ReadyMessage]:
        """List waiting messages in order, claimed ones included, after a message or from the first."""
        start = self._keys.ready(after) + "\0" if after else self._keys.ready_prefix
        found = self._etcd.read(Get(start, prefix_end(self._keys.ready_prefix), limit))
        return [self._parse(item) for item in found.items]

    def _parse(self, item: KeyValue) -> ReadyMessage:
        message = item.key.removeprefix(self._keys.ready_prefix)
        return parse_ready(message, item.value, item.mod_revision)

    def _iter_ready(self) -> Iterator[ReadyMessage]:
        after = ""
        while page := self.list_ready(after=after, limit=5 * PAGE):
            yield from page
            after = page[-1].id

    def claimed(self) -> set[str]:
        """List the messages that somebody holds a claim on."""
        prefix = self._keys.claims_prefix
        return {i.key.removeprefix(prefix) for i in self._etcd.read(Get(prefix, prefix_end(prefix))).items}

    def claim(self, messages: Sequence[ReadyMessage], lease: Lease) -> list[Claim]:
        """Claim messages and read them, in one transaction; those that others hold are left out.

        Counts as an attempt, also when the claimer dies at once. At most MAX_MESSAGES_PER_CLAIM.
        """
        try:
            return self._claim(messages, lease.renewed())
        except LeaseGone:
            lease.forget()
            return self._claim(messages, lease.renewed())

    def _claim(self, messages: Sequence[ReadyMessage], lease: int) -> list[Claim]:
        compare: list[Compare] = []
        success: list[Operation] = []
        failure: list[Operation] = []
        for m in messages:
            ready, claim = self._keys.ready(m.id), self._keys.claim(m.id)
            compare += [absent(claim), Compare(ready, "mod", "=", m.revision)]
            value = _ready_value(size=m.bytes, rows=m.rows, attempts=m.attempts + 1)
            success += [Put(claim, b"", lease), Put(ready, value), Get(self._keys.payload(m.id))]
            failure += [Get(ready), Get(claim)]
        answer = self._etcd.txn(compare, success, failure)
        if answer.succeeded:
            return [
                Claim(message=m, payload=read.items[0].value, revision=answer.revision)
                for m, read in zip(messages, answer.reads, strict=True)
            ]
        # Somebody was faster, or what I was told is old: claim one by one what is free.
        free = []
        for m, ready_read, claim_read in zip(messages, answer.reads[::2], answer.reads[1::2], strict=True):
            if ready_read.items and not claim_read.items:
                item = ready_read.items[0]
                free.append(parse_ready(m.id, item.value, item.mod_revision))
        if len(messages) == 1:
            stale = bool(free) and free[0].revision != messages[0].revision
            return self._claim(free, lease) if stale else []
        return [claim for m in free for claim in self._claim([m], lease)]

    def commit_compare(self, claims: Sequence[Claim]) -> list[Compare]:
        """Build the conditions of a move: each claim is still the one that I made."""
        return [Compare(self._keys.claim(c.message.id), "create", "=", c.revision) for c in claims]

    def commit_operations(self, claims: Sequence[Claim]) -> list[Operation]:
        """Build the queue's half of a move: the messages cease to be."""
        out: list[Operation] = []
        for c in claims:
            m = c.message.id
            out += [Delete(self._keys.ready(m)), Delete(self._keys.payload(m)), Delete(self._keys.claim(m))]
        return out

    def release(self, claims: Sequence[Claim]) -> None:
        """Give claims back, those that are still mine, and ring the bell so that others take them."""
        for c in claims:
            # The claim put the ready key last: claim and ready key are of one revision.
            now = replace(c.message, attempts=c.message.attempts + 1, revision=c.revision)
            bell = Put(self._keys.queue_bell, orjson.dumps({"messages": [describe(now)]}))
            self._etcd.txn(self.commit_compare([c]), [Delete(self._keys.claim(c.message.id)), bell])

    def put_back(self, claim: Claim) -> None:
        """Give a claim back as if it had never been made, silently: the next listing finds the message."""
        m = claim.message
        value = _ready_value(size=m.bytes, rows=m.rows, attempts=m.attempts)
        operations: list[Operation] = [Delete(self._keys.claim(m.id)), Put(self._keys.ready(m.id), value)]
        self._etcd.txn(self.commit_compare([claim]), operations)

    def bury(self, claim: Claim, reason: str) -> None:
        """Make a claimed message a dead letter, whole, with the reason and its attempts.

        Raises:
            Conflict: The claim is no longer mine.
        """
        m = claim.message
        value = orjson.dumps(
            {"bytes": m.bytes, "rows": m.rows, "attempts": m.attempts + 1, "reason": reason[:2000]}
        )
        operations: list[Operation] = [
            Put(self._keys.dead(m.id), value),
            Delete(self._keys.ready(m.id)),
            Delete(self._keys.claim(m.id)),
        ]
        if not self._etcd.txn(self.commit_compare([claim]), operations).succeeded:
            raise Conflict(f"the claim on {m.id} was lost")
        log.error("message buried: %s", reason, extra={"action": "dead_letter", "message_id": m.id})

    def depth(self, now_ms: int) -> Depth:
        """Count what waits; reads every description, so ask at most about once a second."""
        count = total = 0
        oldest = now_ms
        for message in self._iter_ready():
            oldest = min(oldest, message.received_ms)
            count, total = count + 1, total + message.bytes
        claims, dead = (
            self._etcd.read(Get(prefix, prefix_end(prefix), count_only=True)).count
            for prefix in (self._keys.claims_prefix, self._keys.dead_prefix)
        )
        return Depth(
            depth=count,
            bytes=total,
            oldest_age_s=round(max(now_ms - oldest, 0) / 1000, 3),
            claimed=claims,
            dead=dead,
        )

    def depth_now(self) -> int:
        """Count the messages that are not committed."""
        prefix = self._keys.ready_prefix
        return self._etcd.read(Get(prefix, prefix_end(prefix), count_only=True)).count

    def count_of_upload(self, upload_id: str) -> tuple[int, int]:
        """Count the messages of one upload that wait, and its dead letters."""
        ready, dead = self._keys.ready_of(upload_id), self._keys.dead_of(upload_id)
        answer = self._etcd.txn(
            [], [Get(p, prefix_end(p), count_only=True) for p in (ready, dead)]
        )  # one revision for both
        return answer.reads[0].count, answer.reads[1].count

    def size_of_upload(self, upload_id: str) -> tuple[int, int]:
        """Count the messages of an upload, waiting or set aside, and their rows."""
        messages = rows = 0
        for prefix in (self._keys.ready_of(upload_id), self._keys.dead_of(upload_id)):
            for item in self._iter_items(prefix):
                messages, rows = messages + 1, rows + orjson.loads(item.value)["rows"]
        return messages, rows

    def drop_upload(self, upload_id: str) -> tuple[int, int]:
        """Delete the messages of an upload, waiting, claimed or set aside; returns how many, and their rows.

        A collector that holds one loses it: its move fails. One that moved it before did move it.
        """
        messages = rows = 0
        for prefix, key_of in (
            (self._keys.ready_of(upload_id), self._keys.ready),
            (self._keys.dead_of(upload_id), self._keys.dead),
        ):
            for item in self._iter_items(prefix):
                m = upload_id + "-" + item.key.removeprefix(prefix)
                keys = (key_of(m), self._keys.payload(m), self._keys.claim(m))
                there = Compare(item.key, "create", "=", item.create_revision)
                if self._etcd.txn([there], [Delete(key) for key in keys]).succeeded:
                    messages, rows = messages + 1, rows + orjson.loads(item.value)["rows"]
        return messages, rows

    def _iter_items(self, prefix: str) -> Iterator[KeyValue]:
        start = prefix
        while items := self._etcd.read(Get(start, prefix_end(prefix), PAGE)).items:
            yield from items
            start = items[-1].key + "\0"

    def revision(self) -> int:
        """Return the revision of the store now: a watch from the next one on misses nothing."""
        return self._etcd.read(Get(self._keys.queue_bell)).revision

    def watch(self, start_revision: int) -> Watch:
        """Watch the bell; each event names the messages just published (see parse_bell)."""
        return self._etcd.watch(self._keys.queue_bell, start_revision)


def parse_bell(value: bytes, revision: int) -> list[ReadyMessage]:
    """Read from the bell which messages were published, or released, at that revision."""
    return [
        ReadyMessage(
            id=m["id"],
            bytes=m["bytes"],
            rows=m["rows"],
            attempts=m["attempts"],
            revision=m.get("revision", revision),
        )
        for m in orjson.loads(value)["messages"]
    ]
