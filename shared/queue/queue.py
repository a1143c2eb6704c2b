"""What can be done with messages, each in one transaction or a few."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from shared.errors import Conflict, Transient
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
from shared.keys import Keys
from shared.queue.collectors import PAGE, Collector
from shared.queue.depth import Depth, read_depth
from shared.queue.lease import Lease
from shared.queue.message import (
    Claim,
    ReadyMessage,
    build_bell,
    build_ready,
    parse_claimer,
    parse_ready,
)
from shared.queue.returns import Returns

log = logging.getLogger(__name__)

#: etcd refuses a request over 1.5 MiB; a message stays well below, so that a move of it fits too.
MAX_MESSAGE_BYTES = 1_000_000
#: Messages in one claim or one move: each takes three operations of etcd's 128, and the store some too.
MAX_MESSAGES_PER_CLAIM = 32
#: Seconds for which a publish is repeated while etcd is away; an upload must answer within 3 s.
PUBLISH_RETRY_S = 2.4
#: How often what is free of a group is claimed together before it is claimed one by one.
_CLAIMS_TOGETHER = 3


@dataclass(slots=True)
class Tally:
    """Transactions that take messages: those that went through, and those that found others faster."""

    won: int = 0
    lost: int = 0

    def count(self, *, won: bool) -> None:
        """Count one."""
        self.won, self.lost = self.won + won, self.lost + (not won)


class Queue:
    """The message queue of one pipeline; safe to share between threads.

    Raises Transient from any call when etcd is away: an outage is never reported as an empty queue.
    """

    def __init__(self, etcd: Etcd, keys: Keys) -> None:
        self._etcd = etcd
        self._keys = keys
        #: Messages whose claims are given back as soon as etcd answers: see return_later.
        self.returns = Returns(self._return)

    def publish(self, message: str, payload: bytes, *, rows: int, also: Sequence[Put] = ()) -> None:
        """Put a message, its description, the bell and `also` in one transaction; durable on return.

        Idempotent: while etcd is away it is repeated for PUBLISH_RETRY_S, on the condition that the
        message is not there yet, be it as a dead letter. One that was moved in between is published
        again, and its rows, being of the same version, change nothing.

        Raises:
            Transient: etcd stayed away; the message may or may not be in the queue.
            Conflict: The upload was undone; nothing was put.
        """
        new = ReadyMessage(id=message, bytes=len(payload), rows=rows, attempts=0, revision=0)
        deleted = self._keys.deleted(new.upload_id)
        compare = [absent(self._keys.ready(message)), absent(self._keys.dead(message)), absent(deleted)]
        operations: list[Operation] = [
            Put(self._keys.ready(message), build_ready(new, attempts=0)),
            Put(self._keys.payload(message), payload),
            Put(self._keys.queue_bell, build_bell([new])),
            *also,
        ]
        deadline = time.monotonic() + PUBLISH_RETRY_S
        while True:
            left_s = deadline - time.monotonic()
            try:
                # Where the message is there already, an earlier try put it, and `also` with it.
                answer = self._etcd.txn(
                    compare, operations, [Get(deleted, count_only=True)], timeout_s=left_s
                )
            except Transient:
                if deadline - time.monotonic() < 0.2:  # noqa: PLR2004
                    raise
                threading.Event().wait(0.1)
            else:
                if not answer.succeeded and answer.reads[0].count:
                    raise Conflict(f"upload {new.upload_id} was undone: it takes no more messages")
                return

    def list_ready(self, *, after: str = "", limit: int = PAGE) -> list[ReadyMessage]:
        """List waiting messages in order, claimed ones included, after a message or from the first."""
        start = self._keys.ready(after) + "\0" if after else self._keys.ready_prefix
        found = self._etcd.read(Get(start, prefix_end(self._keys.ready_prefix), limit))
        return [self._parse(item) for item in found.items]

    def _parse(self, item: KeyValue) -> ReadyMessage:
        message = item.key.removeprefix(self._keys.ready_prefix)
        return parse_ready(message, item.value, item.mod_revision)

    def claimed(self) -> set[str]:
        """List the messages that somebody holds a claim on."""
        prefix = self._keys.claims_prefix
        return {i.key.removeprefix(prefix) for i in self._etcd.read(Get(prefix, prefix_end(prefix))).items}

    def joined(self) -> Collector:
        """Return one that takes messages by listing, beside any number of others; for a `with` block."""
        return Collector(self._etcd, self._keys)

    def claim(
        self, messages: Sequence[ReadyMessage], lease: Lease, tally: Tally | None = None, by: str = ""
    ) -> list[Claim]:
        """Claim messages and read them, in one transaction; those that others hold are left out.

        Counts as an attempt, also when the claimer dies at once. At most MAX_MESSAGES_PER_CLAIM.

        Args:
            messages: Those to claim, as they were last seen.
            lease: What the claims are bound to.
            tally: Counts the transactions.
            by: The collector that claims, where it is one that takes messages by listing.
        """
        tally = tally or Tally()
        try:
            return self._claim(messages, lease.renewed(), tally, by)
        except LeaseGone:
            lease.forget()
            return self._claim(messages, lease.renewed(), tally, by)

    def _claim(self, messages: Sequence[ReadyMessage], lease: int, tally: Tally, by: str) -> list[Claim]:
        for _ in range(_CLAIMS_TOGETHER):
            claims, messages = self._claim_together(messages, lease, tally, by)
            if not messages:
                return claims
        return [c for m in messages for c in self._claim_together([m], lease, tally, by)[0]]

    def _claim_together(
        self, messages: Sequence[ReadyMessage], lease: int, tally: Tally, by: str
    ) -> tuple[list[Claim], list[ReadyMessage]]:
        """Claim all or none; where none, also tells which are free all the same, as they are now."""
        compare: list[Compare] = []
        success: list[Operation] = []
        failure: list[Operation] = []
        for m in messages:
            ready, claim = self._keys.ready(m.id), self._keys.claim(m.id)
            compare += [absent(claim), Compare(ready, "mod", "=", m.revision)]
            value = build_ready(m, attempts=m.attempts + 1, by=lease)
            success += [Put(claim, by.encode(), lease), Put(ready, value), Get(self._keys.payload(m.id))]
            failure += [Get(ready), Get(claim)]
        answer = self._etcd.txn(compare, success, failure)
        tally.count(won=answer.succeeded)
        if answer.succeeded:
            payloads = (read.items[0].value if read.items else b"" for read in answer.reads)
            return [
                Claim(message=m, payload=payload, revision=answer.revision)
                for m, payload in zip(messages, payloads, strict=True)
            ], []
        # Somebody was faster, or what I was told is old.
        states = zip(answer.reads[::2], answer.reads[1::2], strict=True)
        return [], [self._parse(r.items[0]) for r, claim in states if r.items and not claim.items]

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
            bell = Put(self._keys.queue_bell, build_bell([now]))
            self._etcd.txn(self.commit_compare([c]), [Delete(self._keys.claim(c.message.id)), bell])

    def put_back(self, claim: Claim) -> None:
        """Give a claim back as if it had never been made, silently: the next listing finds the message."""
        m = claim.message
        ready = Put(self._keys.ready(m.id), build_ready(m, attempts=m.attempts))
        self._etcd.txn(self.commit_compare([claim]), [Delete(self._keys.claim(m.id)), ready])

    def _return(self, messages: Sequence[str], lease: int) -> None:
        """Free what is still claimed under a lease, as if the claims had never been made, and end the lease.

        The description tells who claimed last: whoever claimed since has put it anew. So this also mends a
        claim whose answer was lost, and one that has ended with its lease.
        """
        for m in messages:
            ready = self._keys.ready(m)
            item = self._etcd.get(ready)
            if item is None or parse_claimer(item.value) != lease:
                continue
            message = self._parse(item)
            value = build_ready(message, attempts=max(message.attempts - 1, 0))
            self._etcd.txn(
                [Compare(ready, "mod", "=", item.mod_revision)],
                [Delete(self._keys.claim(m)), Put(ready, value)],
            )
        self._etcd.lease_revoke(lease)

    def bury(self, claim: Claim, reason: str, now_ms: int) -> None:
        """Make a claimed message a dead letter, whole, with the reason, its attempts and the time.

        Raises:
            Conflict: The claim is no longer mine.
        """
        m = claim.message
        value = orjson.dumps({
            "bytes": m.bytes,
            "rows": m.rows,
            "attempts": m.attempts + 1,
            "reason": reason[:2000],
            "buried_ms": now_ms,
        })  # fmt: skip
        operations: list[Operation] = [
            Put(self._keys.dead(m.id), value),
            Delete(self._keys.ready(m.id)),
            Delete(self._keys.claim(m.id)),
        ]
        if not self._etcd.txn(self.commit_compare([claim]), operations).succeeded:
            raise Conflict(f"the claim on {m.id} was lost")
        log.error("message buried: %s", reason, extra={"action": "dead_letter", "message_id": m.id})

    def depth(self, now_ms: int) -> Depth:
        """Count what waits; reads a few thousand descriptions at most, so ask about once a second."""
        return read_depth(self._etcd, self._keys, now_ms)

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

    def revision(self) -> int:
        """Return the revision of the store now: a watch from the next one on misses nothing."""
        return self._etcd.read(Get(self._keys.queue_bell)).revision

    def watch(self, start_revision: int) -> Watch:
        """Watch the bell; each event names the messages just published (see parse_bell)."""
        return self._etcd.watch(self._keys.queue_bell, start_revision)
