"""The values that calls of etcd take and give: conditions, operations, answers. No I/O, nothing of grpc.

Named tuples, but for one that has a `count`: a dataclass takes ten times as long to define (docs/adr/0018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class KeyValue(NamedTuple):
    """One key as etcd holds it."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


class Compare(NamedTuple):
    """A condition of a transaction: a number that etcd keeps of a key, against a value."""

    key: str
    target: Literal["create", "mod", "version"]
    op: Literal["=", "!=", ">", "<"]
    value: int


def absent(key: str) -> Compare:
    """Build the condition that a key does not exist."""
    return Compare(key, "create", "=", 0)


class Put(NamedTuple):
    """Put a key, bound to a lease or to none."""

    key: str
    value: bytes = b""
    lease: int = 0


class Delete(NamedTuple):
    """Delete one exact key."""

    key: str


class Get(NamedTuple):
    """Read one key, or all in [key, end)."""

    key: str
    end: str = ""
    limit: int = 0
    count_only: bool = False
    min_mod_revision: int = 0


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """What a read found: the keys in order, and how many there are in all."""

    items: tuple[KeyValue, ...]
    count: int
    revision: int


class TxnAnswer(NamedTuple):
    """What a transaction did: whether its conditions held, at which revision, and its reads in order."""

    succeeded: bool
    revision: int
    reads: tuple[RangeAnswer, ...]


class WatchEvent(NamedTuple):
    """One change of a watched key."""

    key: str
    value: bytes
    deleted: bool
    mod_revision: int


Operation = Put | Delete | Get


def prefix_end(prefix: str) -> str:
    """Return the first key after all that begin with an ASCII prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


class MemberStatus(NamedTuple):
    """What one etcd member says of itself."""

    version: str
    #: Size of its database file: what the quota is counted by.
    db_size_bytes: int
    #: What of the file is in use; the rest is free pages, used again before the file grows.
    db_in_use_bytes: int
    revision: int
