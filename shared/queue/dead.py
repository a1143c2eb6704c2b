"""Dead letters: messages set aside, whole, until somebody replays or drops them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from shared.errors import Conflict, NotFound
from shared.etcd import Compare, Delete, Etcd, Get, KeyValue, Operation, Put, absent, prefix_end
from shared.keys import Keys, ingestion_day
from shared.queue.message import ReadyMessage, build_bell, build_ready

log = logging.getLogger(__name__)

#: Dead letters of one transaction: a replay has three conditions each, of etcd's 128.
_BATCH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What is known of a dead letter without reading it."""

    #: The message as it waits when it is replayed, but for the day.
    message: ReadyMessage
    #: How often it was claimed before it was buried.
    attempts: int
    reason: str
    #: Epoch ms; None where an older version buried it.
    buried_ms: int | None
    #: The create_revision of its key: what is replayed or dropped is the one that was read.
    revision: int


class DeadLetters:
    """The dead letters of one pipeline; safe to share between threads. Raises Transient when etcd is away."""

    def __init__(self, etcd: Etcd, keys: Keys) -> None:
        self._etcd = etcd
        self._keys = keys

    def read_page(self, *, after: str = "", limit: int) -> tuple[list[DeadLetter], int]:
        """List dead letters in order of their uploads, and count all there are."""
        prefix = self._keys.dead_prefix
        start = self._keys.dead(after) + "\0" if after else prefix
        page, whole = self._etcd.txn(
            [], [Get(start, prefix_end(prefix), limit), Get(prefix, prefix_end(prefix), count_only=True)]
        ).reads
        return [self._parse(item) for item in page.items], whole.count

    def read(self, message: str) -> tuple[DeadLetter, bytes]:
        """Read a dead letter and its payload.

        Raises:
            NotFound: There is none of that name.
        """
        found, payload = self._etcd.txn(
            [], [Get(self._keys.dead(message)), Get(self._keys.payload(message))]
        ).reads
        if not found.items:
            raise NotFound(f"there is no dead letter {message}")
        return self._parse(found.items[0]), payload.items[0].value if payload.items else b""

    def replay(self, message: str, now_ms: int) -> None:
        """Put a dead letter back into the queue, in one transaction, as if it had never been attempted.

        The payload stays where it is, so its rows keep their version.

        Raises:
            NotFound: There is none of that name.
            Conflict: Its upload was undone, its payload is gone, or another was faster.
        """
        letter, _ = self.read(message)
        if not self._replay([letter], now_ms):
            raise Conflict(f"{message} cannot be replayed: its upload was undone, or somebody was faster")

    def replay_all(self, limit: int, now_ms: int) -> tuple[int, int]:
        """Replay dead letters, at most so many; returns how many were, and how many are left."""
        return self._in_batches(limit, lambda letters: self._replay(letters, now_ms))

    def drop(self, message: str) -> None:
        """Delete a dead letter and its payload, for ever.

        Raises:
            NotFound: There is none of that name.
            Conflict: Another was faster: it is no dead letter any more.
        """
        letter, _ = self.read(message)
        if not self._drop([letter]):
            raise Conflict(f"{message} is no dead letter any more: somebody was faster")

    def drop_all(self, limit: int) -> tuple[int, int]:
        """Delete dead letters, at most so many; returns how many were, and how many are left."""
        return self._in_batches(limit, self._drop)

    def _in_batches(self, limit: int, act: Callable[[Sequence[DeadLetter]], bool]) -> tuple[int, int]:
        """Do with many what is done with all or none; where a batch fails, with each by itself."""
        done, after = 0, ""
        while done < limit:
            batch, _ = self.read_page(after=after, limit=min(_BATCH, limit - done))
            if not batch:
                break
            after = batch[-1].message.id
            done += len(batch) if act(batch) else sum(act([letter]) for letter in batch)
        return done, self.read_page(limit=1)[1]

    def _parse(self, item: KeyValue) -> DeadLetter:
        fields = orjson.loads(item.value)
        message = ReadyMessage(
            id=item.key.removeprefix(self._keys.dead_prefix),
            bytes=fields["bytes"],
            rows=fields["rows"],
            attempts=0,
            revision=0,
        )
        return DeadLetter(
            message=message,
            attempts=fields["attempts"],
            reason=fields["reason"],
            buried_ms=fields.get("buried_ms"),
            revision=item.create_revision,
        )

    def _still_dead(self, letters: Sequence[DeadLetter]) -> list[Compare]:
        return [Compare(self._keys.dead(x.message.id), "create", "=", x.revision) for x in letters]

    def _replay(self, letters: Sequence[DeadLetter], now_ms: int) -> bool:
        """Replay all or none."""
        day = ingestion_day(now_ms)
        messages = [
            ReadyMessage(
                id=m.id, bytes=m.bytes, rows=m.rows, attempts=0, revision=0, filed_day=day
            )
            for m in (x.message for x in letters)
        ]  # fmt: skip
        compare = self._still_dead(letters)
        compare += [Compare(self._keys.payload(m.id), "version", ">", 0) for m in messages]
        compare += [absent(self._keys.deleted(upload)) for upload in {m.upload_id for m in messages}]
        operations: list[Operation] = [Put(self._keys.queue_bell, build_bell(messages))]
        for m in messages:
            operations += [
                Delete(self._keys.dead(m.id)),
                Put(self._keys.ready(m.id), build_ready(m, attempts=0)),
            ]
        replayed = self._etcd.txn(compare, operations).succeeded
        if replayed:
            log.info("replayed %d dead letters", len(messages), extra={"action": "replayed"})
        return replayed

    def _drop(self, letters: Sequence[DeadLetter]) -> bool:
        """Drop all or none."""
        operations: list[Operation] = []
        for x in letters:
            operations += [Delete(self._keys.dead(x.message.id)), Delete(self._keys.payload(x.message.id))]
        dropped = self._etcd.txn(self._still_dead(letters), operations).succeeded
        if dropped:
            names = [x.message.id for x in letters]
            log.warning(
                "dropped %d dead letters", len(letters), extra={"action": "dropped", "messages": names}
            )
        return dropped
