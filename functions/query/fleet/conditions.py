"""Which GPUs are idle, and which are busy but empty: decisions over what was measured."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from shared.records import chunk


def look_up(uuids: pa.Array, table: pa.Table, name: str) -> pa.Array:
    """Find what a table says of GPUs, row by row; null where it does not have them."""
    places = pc.index_in(uuids, value_set=chunk(table, "uuid"))
    return chunk(table, name).take(places)


def mean(stats: pa.Table) -> pa.Array:
    """Compute the mean of each row of `Stats`."""
    return pc.divide(chunk(stats, "sum"), chunk(stats, "count").cast(pa.float64()))


def find_idle(
    utilization: pa.Table, memory: pa.Table, sm_active: pa.Table, threshold: float, memory_mb: float
) -> pa.Table:
    """Find the GPUs whose every gpu_utilization is at or below a threshold; most memory held first.

    Args:
        utilization: `Stats` of gpu_utilization.
        memory: `Stats` of memory_used_mb.
        sm_active: `Stats` of sm_active.
        threshold: In percent.
        memory_mb: Above this newest memory_used_mb, an idle GPU is `holding_memory`.

    Returns:
        uuid, since_ms, last_ms, gpu_utilization_avg, gpu_utilization_max, and sm_active_avg, memory_used_mb
        and holding_memory, each null where not known.
    """
    found = utilization.filter(pc.less_equal(utilization.column("max"), threshold)).combine_chunks()
    uuids = chunk(found, "uuid")
    used = look_up(uuids, memory, "last")
    table = pa.table({
        "uuid": uuids,
        "since_ms": chunk(found, "first_ms"),
        "last_ms": chunk(found, "last_ms"),
        "gpu_utilization_avg": mean(found),
        "gpu_utilization_max": chunk(found, "max"),
        "sm_active_avg": look_up(uuids, sm_active.append_column("mean", mean(sm_active)), "mean"),
        "memory_used_mb": used,
        "holding_memory": pc.greater(used, memory_mb),
    })  # fmt: skip
    return table.sort_by([("memory_used_mb", "descending"), ("uuid", "ascending")])


def find_busy_but_empty(
    utilization: pa.Table, sm_active: pa.Table, busy_above: float, empty_below: float
) -> pa.Table:
    """Find the GPUs whose mean gpu_utilization is high and whose mean sm_active is low; the emptiest first.

    Returns:
        uuid, gpu_utilization_avg, sm_active_avg.
    """
    busy = mean(utilization)
    uuids = chunk(utilization, "uuid")
    active = look_up(uuids, sm_active.append_column("mean", mean(sm_active)), "mean")
    table = pa.table({"uuid": uuids, "gpu_utilization_avg": busy, "sm_active_avg": active})
    table = table.filter(pc.and_(pc.greater(busy, busy_above), pc.less(active, empty_below)))
    return table.sort_by([("sm_active_avg", "ascending"), ("uuid", "ascending")])


def boards(uuids: pa.Array) -> pa.Array:
    """Name the board of each GPU: a MIG instance is `<board>:gi-<N>`."""
    return pc.replace_substring_regex(uuids, pattern=":gi-.*$", replacement="")


def count_boards(uuids: pa.Array) -> int:
    """Count the boards that GPUs are on."""
    return len(pc.unique(boards(uuids)))
