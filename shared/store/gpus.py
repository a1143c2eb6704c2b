"""Which GPUs there are: per segment a small table, made once since segments never change, and their merger.

A summary has one row per GPU: uuid, first_ms, last_ms, records, and the newest of each label.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from shared.records import LABELS, chunk, concat
from shared.store.read import Cache, Store
from shared.store.segment import SegmentInfo

_CACHE_BYTES = 64 * 1024 * 1024


def summarise(table: pa.Table) -> pa.Table:
    """Summarise the sorted records of one segment, in order of uuid."""
    uuids = chunk(table, "uuid")
    columns = {"uuid": uuids.indices, "ms": chunk(table, "timestamp").cast(pa.int64())}
    # `upload_id` comes along to tell which of two segments has the newer word on one instant.
    labels = [name for name in (*LABELS, "upload_id") if name in table.column_names]
    columns |= {name: chunk(table, name).indices for name in labels}
    grouped = (
        pa.table(columns)
        .group_by("uuid", use_threads=False)
        .aggregate([("ms", "min"), ("ms", "max"), ("ms", "count"), *((name, "last") for name in labels)])
    )
    out = {
        "uuid": pa.DictionaryArray.from_arrays(chunk(grouped, "uuid"), uuids.dictionary),
        "first_ms": chunk(grouped, "ms_min"),
        "last_ms": chunk(grouped, "ms_max"),
        "records": chunk(grouped, "ms_count"),
    }
    for name in labels:
        out[name] = pa.DictionaryArray.from_arrays(
            chunk(grouped, f"{name}_last"), chunk(table, name).dictionary
        )
    return pa.table({name: _text(values) for name, values in out.items()})


def merge(summaries: Sequence[pa.Table]) -> pa.Table:
    """Merge summaries: newest labels, outermost times, records added up; in order of uuid."""
    joined = concat(summaries).sort_by([("last_ms", "ascending"), ("upload_id", "ascending")])
    labels = [name for name in LABELS if name in joined.column_names]
    grouped = joined.group_by("uuid", use_threads=False).aggregate([
        ("first_ms", "min"),
        ("last_ms", "max"),
        ("records", "sum"),
        *((name, "last") for name in labels),
    ])  # fmt: skip
    names = ["first_ms_min", "last_ms_max", "records_sum", *(f"{name}_last" for name in labels)]
    out = {"uuid": chunk(grouped, "uuid")}
    out |= {name.rpartition("_")[0]: chunk(grouped, name) for name in names}
    return pa.table(out).sort_by("uuid").combine_chunks()


def _text(values: pa.Array) -> pa.Array:
    return values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values


class Gpus:
    """The GPUs in the store; safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._summaries: Cache[pa.Table] = Cache(_CACHE_BYTES, lambda table: int(table.nbytes))
        self._merged: tuple[tuple[SegmentInfo, ...], pa.Table | None] = ((), None)

    def read(self) -> pa.Table | None:
        """Summarise the whole store; None where it is empty.

        Raises:
            SegmentGone: The index is out of date; ask again.
        """
        segments = self._store.index().segments
        known, merged = self._merged
        if known is segments and merged is not None:
            return merged
        if not segments:
            return None
        missing = [s for s in segments if self._summaries.get(s.id) is None]
        made = {}
        for segment, table in zip(missing, self._store.read(missing), strict=True):
            made[segment.id] = summarise(table)
            self._summaries.put(segment.id, made[segment.id])
        self._summaries.keep_only({s.id for s in segments})
        parts = []
        for segment in segments:
            part = made.get(segment.id)
            part = part if part is not None else self._summaries.get(segment.id)
            parts.append(part if part is not None else summarise(next(iter(self._store.read([segment])))))
        merged = merge(parts)
        self._merged = (segments, merged)
        return merged


def with_status(summary: pa.Table, now_ms: int | None, stale_after_s: float) -> pa.Table:
    """Add a column `status`: stale where the last record is older than allowed, else active.

    Measured against a time, or against the newest record of all where that is None.
    """
    last = summary.column("last_ms")
    reference = pc.max(last).as_py() if now_ms is None else now_ms
    stale = pc.less(last, int(reference - stale_after_s * 1000))
    return summary.append_column("status", pc.if_else(stale, "stale", "active"))
