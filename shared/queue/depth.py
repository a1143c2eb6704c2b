"""How much waits in the queue, told without reading all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.etcd import Etcd, Get, KeyValue, RangeAnswer, prefix_end
from shared.keys import Keys
from shared.queue.message import ReadyMessage, parse_ready

#: Descriptions read of one place in the queue; a queue of no more is counted exactly.
SAMPLE = 1000
#: Places in a longer queue, beside its head, at which so many are read: fractions of its age.
_PLACES = (1 / 3, 2 / 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What waits in the queue; claimed messages are counted in depth, bytes and rows too."""

    depth: int
    bytes: int
    rows: int
    oldest_age_s: float
    claimed: int
    dead: int
    #: Whether bytes and rows are a guess from samples, for the queue is long; all else is always exact.
    bytes_estimated: bool


def read_depth(etcd: Etcd, keys: Keys, now_ms: int) -> Depth:
    """Count what waits; reads at most three times SAMPLE descriptions, however long the queue is.

    Raises:
        Transient: etcd is away.
    """
    ready = keys.ready_prefix
    counts = [Get(p, prefix_end(p), count_only=True) for p in (keys.claims_prefix, keys.dead_prefix)]
    head, claims, dead = etcd.txn([], [Get(ready, prefix_end(ready), SAMPLE), *counts]).reads
    found = _parse(head.items, ready)
    oldest_ms = found[0].received_ms if found else now_ms
    samples = {m.id: m for m in found}
    if head.count > len(found):
        for answer in _read_samples(etcd, keys, oldest_ms, now_ms):
            samples.update((m.id, m) for m in _parse(answer.items, ready))
    size, rows = _extrapolate(list(samples.values()), head.count)
    return Depth(
        depth=head.count,
        bytes=size,
        rows=rows,
        oldest_age_s=round(max(now_ms - oldest_ms, 0) / 1000, 3),
        claimed=claims.count,
        dead=dead.count,
        bytes_estimated=head.count > len(found),
    )


def _read_samples(etcd: Etcd, keys: Keys, oldest_ms: int, now_ms: int) -> tuple[RangeAnswer, ...]:
    starts = (keys.ready_at(oldest_ms + int((now_ms - oldest_ms) * place)) for place in _PLACES)
    return etcd.txn([], [Get(start, prefix_end(keys.ready_prefix), SAMPLE) for start in starts]).reads


def _parse(items: Sequence[KeyValue], prefix: str) -> list[ReadyMessage]:
    return [parse_ready(i.key.removeprefix(prefix), i.value, i.mod_revision) for i in items]


def _extrapolate(samples: Sequence[ReadyMessage], count: int) -> tuple[int, int]:
    """Guess the bytes and rows of so many messages; exact where the samples are all of them."""
    if not samples:
        return 0, 0
    factor = max(count / len(samples), 1.0)
    return round(sum(m.bytes for m in samples) * factor), round(sum(m.rows for m in samples) * factor)
