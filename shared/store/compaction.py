"""Compaction: takes the steps that fold.py decides, each killed at any point without harm (replace.py)."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

import pyarrow as pa

from shared.etcd import Etcd, Get, prefix_end
from shared.keys import Keys, ingestion_day
from shared.records import chunk, collapse, concat
from shared.store.fold import Step, decide_fold, decide_merge
from shared.store.inventory import encode_inventory, take_inventory
from shared.store.lock import held
from shared.store.read import SegmentGone, Store
from shared.store.replace import MOST_OUTPUTS, adopt, replace
from shared.store.segment import MAX_SEGMENT_BYTES, SegmentInfo
from shared.store.write import TARGET_BYTES, Segment, build_run

log = logging.getLogger(__name__)

#: Folds after one request's moves, at most.
_FOLDS_AT_ONCE = 4
_LOCK_S = 30
#: Uploads that one step asks the queue about.
_MOST_ASKED = 32
#: Steps that were overtaken by others, after which a run ends.
_MOST_LOST = 5


@dataclass(slots=True)
class Compacted:
    """What a run did; adds up."""

    steps: int = 0
    inputs: int = 0
    outputs: int = 0
    lost: int = 0


class Compactor:
    """Folds and merges what one store holds; safe to share between threads.

    Raises Transient from any call when etcd goes away; what was done is done.
    """

    def __init__(self, etcd: Etcd, keys: Keys, store: Store, now_ms: Callable[[], int]) -> None:
        self._etcd = etcd
        self._keys = keys
        self._store = store
        self._now_ms = now_ms

    def fold_some(self) -> Compacted:
        """Fold what is worth it, a few steps at most; for a collector that has just moved something."""
        done = Compacted()
        if decide_fold(self._store.index().segments) is None:
            return done
        with held(self._etcd, self._keys, "fold", _LOCK_S) as mine:
            while mine and done.steps < _FOLDS_AT_ONCE and done.lost < _MOST_LOST:
                step = decide_fold(self._store.index().segments)
                if step is None:
                    break
                self._take(step, done)
        return done

    def compact(self, budget_s: float) -> Compacted:
        """Fold every fresh segment and merge what is worth it, step by step until the time is up."""
        done = Compacted()
        deadline = time.monotonic() + budget_s
        with held(self._etcd, self._keys, "fold", _LOCK_S) as mine:
            today = ingestion_day(self._now_ms())
            while mine and time.monotonic() < deadline and done.lost < _MOST_LOST:
                segments = self._store.index().segments
                step = decide_fold(segments, all_fresh=True, today=today) or decide_merge(segments)
                if step is None:
                    break
                self._take(step, done)
        if done.steps:
            log.info("compacted", extra={"action": "compacted", "steps": done.steps, "inputs": done.inputs})
        return done

    def _take(self, step: Step, done: Compacted) -> None:
        try:
            outputs = self._adopt(step) if step.kind == "adopt" else self._merge(step)
        except SegmentGone:
            outputs = None
        if outputs is None:
            done.lost += 1
            return
        if step.kind == "fold" and outputs >= len(step.inputs) and all(s.level for s in step.inputs):
            # They were of one size and are so again: not to be tried once more in this run.
            done.lost = _MOST_LOST
        done.steps += 1
        done.inputs += len(step.inputs)
        done.outputs += outputs

    def _adopt(self, step: Step) -> int | None:
        """Adopt as many as have inventories that fit into one transaction; the others come next."""
        pairs: list[tuple[SegmentInfo, Segment]] = []
        size = 0
        for info, table in zip(step.inputs, self._store.read(step.inputs), strict=True):
            inventory = encode_inventory(take_inventory(table))
            size += len(inventory)
            if pairs and size > MAX_SEGMENT_BYTES:
                break
            adopted = changed(info, level=step.level, size_bytes=info.size_bytes + len(inventory))
            pairs.append((info, Segment(info=adopted, payload=b"", inventory=inventory)))
        return len(pairs) if adopt(self._etcd, self._keys, pairs) else None

    def _merge(self, step: Step) -> int | None:
        tables = list(self._store.read(step.inputs))
        settled = self._find_settled(step.inputs, tables)
        expected = sum(s.size_bytes for s in step.inputs)
        pieces = min(max(round(expected / TARGET_BYTES), 1), MOST_OUTPUTS)
        outputs: list[Segment] = []
        for parts in _iter_pieces(tables, pieces):
            table = collapse(concat(parts), settled)
            outputs += build_run(
                table, day=step.inputs[0].day, level=step.level, expected_bytes=expected // pieces
            )
        if not replace(self._etcd, self._keys, step.inputs, outputs, self._now_ms()):
            return None
        return len(outputs)

    def _find_settled(self, inputs: Sequence[SegmentInfo], tables: Sequence[pa.Table]) -> set[str]:
        """Find the uploads of several messages of which all is in these segments, and nothing can come."""
        found = [u for u in _of_several_messages(tables) if self._is_whole(u)][:_MOST_ASKED]
        if not found:
            return set()
        # Read after the queue was found to have nothing: whatever left it is in this index.
        mine = {s.id for s in inputs}
        low, high = min(s.min_uuid for s in inputs), max(s.max_uuid for s in inputs)
        others = [
            s
            for s in self._store.index().segments
            if s.id not in mine and s.min_uuid <= high and s.max_uuid >= low
        ]
        return {u for u in found if not any(s.min_upload <= u <= s.max_upload for s in others)}

    def _is_whole(self, upload: str) -> bool:
        """Tell whether an upload has ended and no message of it waits or is set aside."""
        prefixes = (self._keys.ready_of(upload), self._keys.dead_of(upload))
        counts = [Get(p, prefix_end(p), count_only=True) for p in prefixes]
        answer = self._etcd.txn([], [Get(self._keys.upload(upload), count_only=True), *counts])
        return [r.count for r in answer.reads] == [1, 0, 0]


def _of_several_messages(tables: Sequence[pa.Table]) -> list[str]:
    """List the uploads that rows of more than one message are of."""
    numbers: dict[str, set[int]] = {}
    for table in tables:
        pairs = pa.table({"u": chunk(table, "upload_id"), "n": chunk(table, "number")})
        for row in pairs.group_by(["u", "n"], use_threads=False).aggregate([]).to_pylist():
            numbers.setdefault(row["u"], set()).add(row["n"])
    return [upload for upload, found in numbers.items() if len(found) > 1]


def _iter_pieces(tables: Sequence[pa.Table], pieces: int) -> Iterator[list[pa.Table]]:
    """Cut tables, each sorted by uuid, at the same uuids, into about so many pieces of like size."""
    largest = chunk(max(tables, key=lambda t: t.num_rows), "uuid")
    places = [len(largest) * i // pieces for i in range(1, pieces)]
    cuts = sorted({largest[place].as_py() for place in places})
    starts = [0] * len(tables)
    for cut in [*cuts, None]:
        parts = []
        for i, table in enumerate(tables):
            end = table.num_rows if cut is None else _find(table, cut)
            parts.append(table.slice(starts[i], end - starts[i]))
            starts[i] = end
        parts = [p for p in parts if p.num_rows]
        if parts:
            yield parts


def _find(table: pa.Table, uuid: str) -> int:
    """Find the first row of sorted records whose uuid is not before a uuid."""
    uuids = chunk(table, "uuid")
    words = uuids.dictionary.to_pylist()
    return bisect_left(range(len(uuids)), uuid, key=lambda row: words[uuids.indices[row].as_py()])
