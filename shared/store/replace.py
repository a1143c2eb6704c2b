"""Segments are replaced by others that say the same, or less what was undone, in one transaction.

Small replacements are one transaction altogether. Larger ones put the payloads ahead, where nobody sees
them, listed in a `pending` key; one last transaction, on the condition that every segment to be replaced
still stands, brings all of them into the index and deletes the old ones. A crash before it leaves payloads
that the tick sweeps up by their pending key; whoever is slow and finds its pending key gone has lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import orjson

from shared.errors import Transient
from shared.etcd import Compare, Delete, Etcd, Get, Operation, Put, TxnAnswer, prefix_end
from shared.keys import Keys
from shared.store.segment import MAX_SEGMENT_BYTES, SegmentInfo
from shared.store.write import (
    Segment,
    delete_operations,
    index_operations,
    payload_operations,
    put_operations,
    still_there,
)

log = logging.getLogger(__name__)

#: Segments that one replacement takes and makes, at most: etcd takes 128 operations in a transaction.
MOST_INPUTS = 32
MOST_OUTPUTS = 24
#: Seconds for which a transaction is repeated while etcd is away.
_RETRY_S = 5.0
#: A pending key that is older belongs to somebody who died, or has lost the race against this one.
_PENDING_MS = 10 * 60_000


def replace(
    etcd: Etcd, keys: Keys, inputs: Sequence[SegmentInfo], outputs: Sequence[Segment], now_ms: int
) -> bool:
    """Replace segments; False where one of them was gone, and then nothing happened.

    Idempotent while it runs: a transaction whose answer was lost is recognised by what it left.

    Raises:
        Transient: etcd went away: it happened or not, in any case as a whole.
    """
    if sum(s.bytes for s in outputs) <= MAX_SEGMENT_BYTES:
        operations = delete_operations(keys, inputs) + put_operations(keys, outputs)
        return _commit(etcd, keys, still_there(keys, inputs), operations, outputs, inputs)
    first = keys.pending(outputs[0].info.id)
    listed = orjson.dumps({"segments": [s.info.id for s in outputs], "at_ms": now_ms})
    created = etcd.txn([], [Put(first, listed)]).revision
    mine = Compare(first, "create", "=", created)
    for segment in outputs:
        if not repeat(etcd, [mine], payload_operations(keys, segment)).succeeded:
            log.warning("was slower than the tick that sweeps up", extra={"action": "pending_lost"})
            return False
    operations = [
        *delete_operations(keys, inputs),
        *index_operations(keys, [s.info for s in outputs]),
        Delete(first),
    ]
    done = _commit(etcd, keys, [*still_there(keys, inputs), mine], operations, outputs, inputs)
    if not done:
        _sweep(etcd, keys, first, created, [s.info.id for s in outputs])
    return done


def _commit(
    etcd: Etcd,
    keys: Keys,
    compare: Sequence[Compare],
    operations: Sequence[Operation],
    outputs: Sequence[Segment],
    inputs: Sequence[SegmentInfo],
) -> bool:
    """Do the transaction that counts, and tell whether it happened, now or at a try whose answer was lost.

    What it puts tells; where it puts nothing, that the payload is gone: an adopted segment keeps its own.
    """
    witness = outputs[0].info.index_key(keys) if outputs else keys.segment(inputs[0].id)
    answer = repeat(etcd, compare, operations, [Get(witness, count_only=True)])
    return answer.succeeded or (answer.reads[0].count > 0) is bool(outputs)


def repeat(
    etcd: Etcd,
    compare: Sequence[Compare],
    operations: Sequence[Operation],
    failure: Sequence[Operation] = (),
    *,
    retry_s: float = _RETRY_S,
) -> TxnAnswer:
    """Do a transaction, again and again while etcd does not answer; an earlier try may have happened.

    Raises:
        Transient: etcd stayed away.
    """
    deadline = time.monotonic() + retry_s
    while True:
        try:
            return etcd.txn(compare, operations, failure)
        except Transient:
            if time.monotonic() > deadline:
                raise
            threading.Event().wait(0.2)


def _sweep(etcd: Etcd, keys: Keys, pending: str, created: int, segments: Sequence[str]) -> bool:
    """Delete payloads that were put ahead and never came into the index."""
    gone = [Delete(k) for s in segments for k in (keys.segment(s), keys.inventory(s))]
    return etcd.txn([Compare(pending, "create", "=", created)], [*gone, Delete(pending)]).succeeded


def sweep_pending(etcd: Etcd, keys: Keys, now_ms: int) -> int:
    """Sweep up after replacements that died before their last transaction; returns how many payloads went."""
    swept = 0
    for item in etcd.read(Get(keys.pending_prefix, prefix_end(keys.pending_prefix), 100)).items:
        value = orjson.loads(item.value)
        if abs(now_ms - value["at_ms"]) >= _PENDING_MS and _sweep(
            etcd, keys, item.key, item.create_revision, value["segments"]
        ):
            swept += len(value["segments"])
    return swept


def adopt(etcd: Etcd, keys: Keys, pairs: Sequence[tuple[SegmentInfo, Segment]]) -> bool:
    """Lift fresh segments to level 1 as they are: a new index entry and an inventory, no new payload."""
    olds = [old for old, _ in pairs]
    operations: list[Operation] = [Delete(old.index_key(keys)) for old in olds]
    operations += [Put(keys.inventory(new.info.id), new.inventory) for _, new in pairs]
    operations += index_operations(keys, [new.info for _, new in pairs])
    return _commit(etcd, keys, still_there(keys, olds), operations, [new for _, new in pairs], olds)
