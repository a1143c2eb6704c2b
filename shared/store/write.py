"""The store's half of a move: fresh segments, their index entries and the bell, as operations.

This module and read.py own the keys below store/; nobody else puts or deletes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import pyarrow as pa

from shared.etcd import Operation, Put
from shared.keys import Keys
from shared.store.segment import MAX_SEGMENT_BYTES, SegmentInfo, describe, encode_within


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment that is not stored yet."""

    info: SegmentInfo
    payload: bytes


def build_segment(table: pa.Table, *, day: str, level: int = 0) -> Segment | None:
    """Encode sorted records of one ingestion day; None where they are too many for one transaction."""
    payload = encode_within(table, MAX_SEGMENT_BYTES)
    if payload is None:
        return None
    return Segment(info=describe(table, day=day, level=level, size=len(payload)), payload=payload)


def put_operations(keys: Keys, segments: Sequence[Segment]) -> list[Operation]:
    """Build what stores segments: each with its index entry, and the bell once."""
    out: list[Operation] = []
    for segment in segments:
        out += [
            Put(keys.segment(segment.info.id), segment.payload),
            Put(segment.info.index_key(keys), segment.info.index_value()),
        ]
    bell = orjson.dumps({"segments": [s.info.id for s in segments]})
    return [*out, Put(keys.store_bell, bell)]
