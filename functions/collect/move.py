"""The move: claimed messages become a segment, in one transaction with their deletion.

Queue and store live in the same etcd, so a record is in the queue or in the store, never in both and never
in neither, whatever is killed when. The steps, and what a crash between them leaves:

  claim    (transaction) an attempt is counted; the lease gives the messages back when it ends
  decode, sort, encode   nothing is written
  move     (transaction) all of it or nothing: the segment and its index entry appear, the messages cease
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared import clock
from shared.errors import Conflict, Corrupt, NoSpace, PipelineError, Transient
from shared.etcd import Compare, Etcd, Get, Put, prefix_end
from shared.keys import Keys
from shared.messages import NewerMessage, decode_message
from shared.queue import MAX_MESSAGES_PER_CLAIM, Claim, Lease, Queue, ReadyMessage, Tally
from shared.records import chunk, collapse, concat
from shared.store.replace import repeat
from shared.store.segment import MAX_SEGMENT_BYTES
from shared.store.write import Segment, build_segment, put_operations

log = logging.getLogger(__name__)

#: Payload bytes gathered into one move: as Parquet they take well under a transaction's limit.
MAX_MOVE_BYTES = 1_200_000
#: How often a message may be claimed before it is buried, unless MAX_ATTEMPTS says otherwise.
MAX_ATTEMPTS = 5
#: Seconds for which a move is repeated while etcd is away.
_MOVE_RETRY_S = 5.0


@dataclass(slots=True)
class Done:
    """What was done with messages; adds up."""

    messages: int = 0
    rows: int = 0
    segments: int = 0
    bytes: int = 0
    released: int = 0
    buried: int = 0
    #: Messages that others held.
    lost: int = 0
    #: Transactions that claim or move, and those of them that found others faster and did nothing.
    transactions: int = 0
    transactions_lost: int = 0

    def add(self, other: Done) -> None:
        """Add what another thread did."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def count(self, tally: Tally) -> None:
        """Add transactions."""
        self.transactions += tally.won + tally.lost
        self.transactions_lost += tally.lost


def plan_moves(messages: Sequence[ReadyMessage]) -> list[list[ReadyMessage]]:
    """Group messages into moves: one ingestion day each, within the limits, in order of upload.

    A message that was attempted before moves alone, so that a poisonous one takes no others with it.
    """
    moves: list[list[ReadyMessage]] = []
    size, open_day = 0, ""
    for m in sorted(messages, key=lambda m: m.id):
        alone = m.attempts > 0
        fits = size + m.bytes <= MAX_MOVE_BYTES and moves and len(moves[-1]) < MAX_MESSAGES_PER_CLAIM
        if alone or not fits or m.day != open_day:
            moves.append([m])
            size, open_day = m.bytes, "" if alone else m.day
        else:
            moves[-1].append(m)
            size += m.bytes
    return moves


class Mover:
    """Moves messages from the queue into the store; one per thread, for it holds a lease."""

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        queue: Queue,
        visibility_timeout_s: float,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._queue = queue
        self._lease = Lease(etcd, visibility_timeout_s)
        self._max_attempts = max_attempts

    def move(self, messages: Sequence[ReadyMessage], by: str = "") -> Done:
        """Claim and move one group of plan_moves; `by` is the collector that takes them by listing.

        Raises:
            Transient: etcd went away; NoSpace: it is full. What was claimed is given back when it answers
                again, and the attempt does not count.
            Exception: A defect. What was claimed is given back, and the attempt counts.
        """
        try:
            # Extended while it is at work: slow is not dead.
            with self._lease.held():
                return self._move(messages, by)
        except (Transient, NoSpace):
            lease = self._lease.forget()
            if lease:
                self._queue.returns.add([m.id for m in messages], lease)
            raise
        except BaseException:
            # Whatever it was: the claims must not live on with the lease of a worker that goes on working.
            self._lease.give_back()
            raise

    def _move(self, messages: Sequence[ReadyMessage], by: str) -> Done:
        tally = Tally()
        claims = self._queue.claim(messages, self._lease, tally, by)
        done = Done(lost=len(messages) - len(claims))
        done.count(tally)
        # What was attempted before moves alone: it may be what made the others fail.
        fresh = [c for c in claims if not c.message.attempts]
        for group in (fresh, *([c] for c in claims if c.message.attempts)):
            if group:
                done.add(self._move_claimed(group))
        return done

    def _move_claimed(self, claims: list[Claim]) -> Done:
        tables, good, done = [], [], Done()
        for claim in claims:
            table = self._decode(claim, done)
            if table is not None:
                tables.append(table)
                good.append(claim)
        if good:
            done.add(self._store(good, tables))
        return done

    def _decode(self, claim: Claim, done: Done) -> pa.Table | None:
        attempts = claim.message.attempts
        if attempts >= self._max_attempts:
            # Not looked at any more: it may be the looking that it ends in.
            self._bury(claim, f"it was claimed {attempts} times and never moved", done)
            return None
        try:
            return decode_message(claim.payload)
        except NewerMessage:
            # A newer collector will take it: no attempt is counted, and no bell rung for us to hear again.
            self._queue.put_back(claim)
            done.released += 1
        except Corrupt as exc:
            self._bury(claim, exc.message, done)
        return None

    def _bury(self, claim: Claim, reason: str, done: Done) -> None:
        try:
            self._queue.bury(claim, reason, clock.now_ms())
            done.buried += 1
        except Conflict:
            done.lost += 1

    def _store(self, claims: list[Claim], tables: list[pa.Table]) -> Done:
        table = collapse(concat(tables))
        segment = build_segment(table, day=claims[0].message.day)
        if segment is None and len(claims) > 1:
            middle = len(claims) // 2
            done = self._store(claims[:middle], tables[:middle])
            done.add(self._store(claims[middle:], tables[middle:]))
            return done
        if segment is None:
            # A message is smaller than that, so this is a defect and not the file's fault: keep it whole.
            done = Done()
            self._bury(claims[0], f"it is larger than {MAX_SEGMENT_BYTES} bytes as a segment", done)
            return done
        if not self._commit(claims, segment):
            return self._lost(claims)
        self._reopen_undone(claims, table)
        return Done(
            transactions=1,
            messages=len(claims),
            rows=sum(t.num_rows for t in tables),
            segments=1,
            bytes=segment.info.size_bytes,
        )

    def _reopen_undone(self, claims: Sequence[Claim], table: pa.Table) -> None:
        """Have uploads undone once more of which an import brought rows back; a tick does it.

        Asked after the move: an upload that is undone later finds these rows by itself.
        """
        own = {c.message.upload_id for c in claims}
        moved = set(pc.unique(chunk(table, "upload_id").dictionary).to_pylist())
        if moved <= own:
            return
        for item in self._etcd.read(
            Get(self._keys.deleted_prefix, prefix_end(self._keys.deleted_prefix))
        ).items:
            mark = orjson.loads(item.value)
            if item.key.removeprefix(self._keys.deleted_prefix) in moved and mark["state"] == "deleted":
                there = Compare(item.key, "mod", "=", item.mod_revision)
                self._etcd.txn([there], [Put(item.key, orjson.dumps({**mark, "state": "deleting"}))])

    def _commit(self, claims: Sequence[Claim], segment: Segment) -> bool:
        """Do the move; False where a claim is no longer mine, and then nothing happened.

        Repeated while etcd does not answer: one that did happen left its index entry.
        """
        compare = self._queue.commit_compare(claims)
        operations = put_operations(self._keys, [segment]) + self._queue.commit_operations(claims)
        index_key = segment.info.index_key(self._keys)
        witness = [Get(index_key, count_only=True)]
        answer = repeat(self._etcd, compare, operations, witness, retry_s=_MOVE_RETRY_S)
        return answer.succeeded or answer.reads[0].count > 0

    def _lost(self, claims: Sequence[Claim]) -> Done:
        log.warning(
            "a claim ended before its move: nothing was moved",
            extra={"action": "claim_lost", "messages": [c.message.id for c in claims]},
        )
        self._lease.forget()
        try:
            self._queue.release(claims)
        except PipelineError as exc:
            log.info("could not release: %s", exc, extra={"action": "release_failed"})
        return Done(lost=len(claims), transactions=1, transactions_lost=1)
