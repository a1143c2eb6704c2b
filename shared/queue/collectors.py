"""Collectors that take messages by listing, and who of them takes which.

Any number of them drain one queue without asking each other: each puts a key under a lease of its own, and
a message is taken by the one that its shard falls to by rendezvous hashing. Nobody has to agree: where two
see different collectors for a moment both may try the same message, and the claim decides.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

from shared.etcd import Etcd, Get, Put, prefix_end
from shared.keys import Keys, parse_message_id
from shared.queue.lease import Lease
from shared.queue.message import ReadyMessage, parse_ready

#: Seconds after which a collector that died owns nothing any more.
COLLECTOR_TTL_S = 3
#: Messages that one look sees.
PAGE = 1000
#: Neighbouring messages of an upload that have one owner: they make one segment.
_SHARD_MESSAGES = 8
#: Seconds that a newcomer waits, so that those at work see it before it takes what was theirs.
_SETTLE_S = 0.05
#: Seconds between two looks for signs of life, and after which one that shows none is taken for hung.
_POLL_S, _SILENT_S = 0.1, COLLECTOR_TTL_S + 1.0
#: Others that are watched for signs of life at a time: two reads each, of etcd's 128.
_MOST_WATCHED = 50

#: What became of the owners of messages that are left: they changed, they are at work, or they do nothing.
Others = Literal["changed", "working", "silent"]


def find_owner(message: str, collectors: frozenset[str]) -> str:
    """Tell which collector a message falls to: the same one for as long as it is among them."""
    upload, number = parse_message_id(message)
    return _find_owner_of_shard(f"{upload}/{number // _SHARD_MESSAGES}", collectors)


@lru_cache(8192)
def _find_owner_of_shard(shard: str, collectors: frozenset[str]) -> str:
    def weigh(collector: str) -> tuple[bytes, str]:
        return hashlib.blake2b(f"{collector}/{shard}".encode(), digest_size=8).digest(), collector

    return max(collectors, key=weigh)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a collector sees of a part of the queue, at one revision."""

    #: Free, and mine to take.
    mine: list[ReadyMessage]
    #: Those whom the other free messages fall to, and the last of them that does.
    others: dict[str, str]
    #: The last message of the part, claimed ones included; empty where nothing waits there.
    last: str


class Collector:
    """One that takes messages by listing. Thread-safe, but for entering and leaving.

    What was published after it entered is left to those who are told of it: it comes to an end, and does
    not fight with the queue source over what is new.
    """

    def __init__(self, etcd: Etcd, keys: Keys) -> None:
        self.id = secrets.token_hex(6)
        self._etcd = etcd
        self._keys = keys
        self._lease = Lease(etcd, COLLECTOR_TTL_S)
        self._held = self._lease.held()
        self._lock = threading.Lock()
        self._began = 0
        self._living: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        self._held.__enter__()
        try:
            self._announce()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._held.__exit__(None, None, None)
        self._lease.give_back()

    def _announce(self) -> None:
        """Put my key, and let those who are at work take note of it."""
        prefix = self._keys.collectors_prefix
        with self._lock:
            put = Put(self._keys.collector(self.id), b"", self._lease.renewed())
            answer = self._etcd.txn([], [put, Get(prefix, prefix_end(prefix))])
            self._began = self._began or answer.revision
        if len(answer.reads[0].items) > 1:
            threading.Event().wait(_SETTLE_S)

    def look(self, first: str, last: str = "", *, all_mine: bool = False) -> Look:
        """Look at the messages from the first to the last, or without a last at a page of them.

        Args:
            first: A message's id, or what sorts before or between some.
            last: The same; included.
            all_mine: Take everything free for mine.
        """
        ready, claims = self._keys.ready_prefix, self._keys.claims_prefix
        ends = [f"{prefix}{last}\0" if last else prefix_end(prefix) for prefix in (ready, claims)]
        everyone = Get(self._keys.collectors_prefix, prefix_end(self._keys.collectors_prefix))
        waiting, held, known = self._etcd.txn(
            [], [Get(ready + first, ends[0], PAGE), Get(claims + first, ends[1], PAGE), everyone]
        ).reads
        claimed = {item.key.removeprefix(claims) for item in held.items}
        living = frozenset(item.key.removeprefix(self._keys.collectors_prefix) for item in known.items)
        if self.id not in living:
            # I was held up for so long that my lease ended.
            self._lease.forget()
            self._announce()
            living |= {self.id}
        self._living = living
        mine: list[ReadyMessage] = []
        others: dict[str, str] = {}
        message = ""
        for item in waiting.items:
            message = item.key.removeprefix(ready)
            if message in claimed or item.mod_revision > self._began:
                continue
            owner = self.id if all_mine else find_owner(message, living)
            if owner == self.id:
                mine.append(parse_ready(message, item.value, item.mod_revision))
            else:
                others[owner] = message
        return Look(mine=mine, others=others, last=message)

    def wait_for(self, others: Mapping[str, str], until: float) -> Others:
        """Wait until it is known what becomes of messages that fall to others.

        Args:
            others: Whom they fall to, each with one that was free.
            until: When to give up at the latest, by the monotonic clock.

        Returns:
            changed: Some came or went, or took that one before: look again, more may be mine, or none left.
            working: Each of them has claimed something since, or that one was taken.
            silent: Some have not for longer than one that died would have lived.
        """
        until = min(until, time.monotonic() + _SILENT_S)
        silent, since = dict(others), 0
        while True:
            living, working, revision = self._read_life(silent, since)
            if living != self._living or not silent.keys() <= living or (working and not since):
                return "changed"
            since = since or revision
            silent = {owner: message for owner, message in silent.items() if owner not in working}
            if not silent:
                return "working"
            if time.monotonic() > until:
                return "silent"
            threading.Event().wait(_POLL_S)

    def _read_life(self, others: Mapping[str, str], since: int) -> tuple[frozenset[str], set[str], int]:
        """Read who is alive, who of these took something after a revision, and the revision now."""
        prefixes = self._keys.collectors_prefix, self._keys.claims_prefix
        some = list(others.items())[:_MOST_WATCHED]
        free = [
            Get(key, count_only=True) for _, m in some for key in (self._keys.ready(m), self._keys.claim(m))
        ]
        answer = self._etcd.txn([], [*(Get(p, prefix_end(p), PAGE) for p in prefixes), *free])
        everyone, claims, *counts = answer.reads
        living = frozenset(item.key.removeprefix(prefixes[0]) for item in everyone.items)
        working = {item.value.decode() for item in claims.items if item.create_revision > since > 0}
        for (owner, _), ready, claim in zip(some, counts[::2], counts[1::2], strict=True):
            if not ready.count or claim.count:
                working.add(owner)
        return living, working, answer.revision
