"""GPUs by one of their labels: how many, how many active, and which other labels they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.render import format_times
from shared.records import FIRST_MS, LAST_MS, STATUS, chunk


class Group(NamedTuple):
    """The GPUs that share a label."""

    name: str
    gpus: int
    active: int
    first_seen: str
    last_seen: str
    #: By label the values that the GPUs have, in order.
    others: dict[str, list[str]]

    @property
    def status(self) -> str:
        """Active where one of them is."""
        return "active" if self.active else "stale"


def group_gpus(gpus: pa.Table, label: str, others: Sequence[str]) -> list[Group]:
    """Group GPUs with status by a label, ordered by it; those without it are in no group."""
    names = [label, *others]
    columns = {n: chunk(gpus, n) if n in gpus.column_names else _missing(gpus) for n in names}
    columns["active"] = pc.equal(chunk(gpus, STATUS), "active").cast(pa.int64())
    columns |= {"first_ms": chunk(gpus, FIRST_MS), "last_ms": chunk(gpus, LAST_MS)}
    known = pa.table(columns).filter(columns[label].is_valid()).combine_chunks()
    if not known.num_rows:
        return []
    distinct = [(name, "distinct", pc.CountOptions(mode="only_valid")) for name in others]
    sums = [("active", "count"), ("active", "sum"), ("first_ms", "min"), ("last_ms", "max")]
    grouped = known.group_by(label, use_threads=False).aggregate([*sums, *distinct]).sort_by(label)
    first = format_times(chunk(grouped, "first_ms_min")).to_pylist()
    last = format_times(chunk(grouped, "last_ms_max")).to_pylist()
    return [
        Group(
            name=row[label],
            gpus=row["active_count"],
            active=row["active_sum"],
            first_seen=first_seen,
            last_seen=last_seen,
            others={name: sorted(row[f"{name}_distinct"]) for name in others},
        )
        for row, first_seen, last_seen in zip(grouped.to_pylist(), first, last, strict=True)
    ]


def _missing(gpus: pa.Table) -> pa.Array:
    return pa.nulls(gpus.num_rows, pa.string())
