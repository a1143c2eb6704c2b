"""Writing the store: fresh segments for a move, and the replacement of segments by others.

This module, read.py and undo.py own the keys below store/; what is stored is only ever added to, replaced by
what says the same, or deleted as a whole day or upload.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import PipelineError
from shared.etcd import Compare, Delete, Operation, Put
from shared.keys import Keys
from shared.records import chunk
from shared.store.inventory import encode_inventory, take_inventory
from shared.store.segment import MAX_SEGMENT_BYTES, SegmentInfo, describe, encode_within

#: A folded segment aims at this: with its inventory it fits into one transaction.
TARGET_BYTES = 1_100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment that is not stored yet."""

    info: SegmentInfo
    payload: bytes
    #: Empty at level 0: a fresh segment is opened to ask which GPUs it has.
    inventory: bytes = b""

    @property
    def bytes(self) -> int:
        """What it takes of a transaction."""
        return len(self.payload) + len(self.inventory)


def build_segment(table: pa.Table, *, day: str, level: int = 0) -> Segment | None:
    """Encode sorted records of one ingestion day; None where they are too many for one transaction."""
    inventory = encode_inventory(take_inventory(table)) if level else b""
    payload = encode_within(table, MAX_SEGMENT_BYTES - len(inventory))
    if payload is None:
        return None
    # With its inventory, which of many GPUs with few records each is as large as the payload.
    info = describe(table, day=day, level=level, size=len(payload) + len(inventory))
    return Segment(info=info, payload=payload, inventory=inventory)


def build_run(table: pa.Table, *, day: str, level: int, expected_bytes: int) -> list[Segment]:
    """Encode sorted records as segments one after the other, each about TARGET_BYTES, cut between GPUs.

    Args:
        table: Records that `collapse` made; there may be none.
        day: Their ingestion day.
        level: At least 1.
        expected_bytes: About how large they will be together.
    """
    pieces = max(round(expected_bytes / TARGET_BYTES), 1)
    return [s for piece in _iter_cut(table, pieces) for s in _build_fitting(piece, day, level)]


def _build_fitting(table: pa.Table, day: str, level: int) -> list[Segment]:
    segment = build_segment(table, day=day, level=level)
    if segment is not None:
        return [segment]
    if table.num_rows == 1:
        raise PipelineError("one record is larger than a transaction takes")
    return [s for half in _iter_cut(table, 2) for s in _build_fitting(half, day, level)]


def _iter_cut(table: pa.Table, pieces: int) -> Iterator[pa.Table]:
    """Cut sorted records into about so many parts of like length, between GPUs where one is near."""
    rows = table.num_rows
    if not rows:
        return
    indices = chunk(table, "uuid").indices
    begins = pc.indices_nonzero(pc.not_equal(indices[1:], indices[:-1])).to_pylist() if pieces > 1 else []
    start = 0
    for piece in range(1, pieces):
        wanted = rows * piece // pieces
        near = min(begins, key=lambda b: abs(b + 1 - wanted), default=wanted - 1) + 1
        end = near if abs(near - wanted) <= rows // (4 * pieces) else wanted
        if start < end < rows:
            yield table.slice(start, end - start)
            start = end
    yield table.slice(start)


def payload_operations(keys: Keys, segment: Segment) -> list[Operation]:
    """Build what stores a segment's bytes; without its index entry nobody sees them."""
    out: list[Operation] = [Put(keys.segment(segment.info.id), segment.payload)]
    if segment.inventory:
        out.append(Put(keys.inventory(segment.info.id), segment.inventory))
    return out


def index_operations(keys: Keys, segments: Sequence[SegmentInfo]) -> list[Operation]:
    """Build what brings segments into the index, and rings the bell."""
    out: list[Operation] = [Put(s.index_key(keys), s.index_value()) for s in segments]
    return [*out, ring(keys, segments)]


def ring(keys: Keys, segments: Sequence[SegmentInfo] = ()) -> Put:
    """Build what tells every reader that the index has changed."""
    return Put(keys.store_bell, orjson.dumps({"segments": [s.id for s in segments]}))


def put_operations(keys: Keys, segments: Sequence[Segment]) -> list[Operation]:
    """Build what stores segments: each with its index entry, and the bell once."""
    payloads = [operation for s in segments for operation in payload_operations(keys, s)]
    return payloads + index_operations(keys, [s.info for s in segments])


def still_there(keys: Keys, segments: Sequence[SegmentInfo]) -> list[Compare]:
    """Build the conditions that segments are as they were when the index was read."""
    return [Compare(s.index_key(keys), "create", "=", s.revision) for s in segments]


def delete_operations(keys: Keys, segments: Sequence[SegmentInfo]) -> list[Operation]:
    """Build what deletes segments, each by its exact keys."""
    out: list[Operation] = []
    for s in segments:
        out += [Delete(s.index_key(keys)), Delete(keys.segment(s.id)), Delete(keys.inventory(s.id))]
    return out
