"""Measures for how values spread: over the records of a GPU, and of a host, model, pod or namespace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.fleet.measures import OfField, codes, group, known, label_of, renamed, with_words
from shared.records import chunk, text_of

#: What of a field's values is told apart when a quantile is looked for.
RESOLUTION = {
    "gpu_utilization": 0.1,
    "sm_active": 0.001,
    "tensor_active": 0.001,
    "dram_active": 0.001,
    "memory_used_mb": 16.0,
    "power_draw": 1.0,
}

#: So many rows of `Ranks` are exact.
MOST_RANKS = 1_000_000


@dataclass(frozen=True, slots=True)
class Members:
    """Of each GPU and each value of a label: how many records."""

    label: str
    in_any_order: ClassVar[bool] = False
    by_gpu: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return (self.label,)

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, name, rows."""
        labels = label_of(part, self.label)
        rows = {"uuid": codes(part), "name": labels.indices}
        grouped = renamed(group(rows, ("uuid", "name"), [([], "count_all")]), ("rows",), keys=2)
        return with_words(part, _with_names(grouped, labels))

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge into one row per GPU and value of the label."""
        return renamed(group(taken, ("uuid", "name"), [("rows", "sum")]), ("rows",), keys=2)


@dataclass(frozen=True, slots=True)
class Bins:
    """Of each GPU and each value of a label: how a field's values spread, in bins of its RESOLUTION."""

    label: str
    field: str
    in_any_order: ClassVar[bool] = True
    by_gpu: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return (self.label, self.field)

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, name, bin, count, sum, max."""
        labels = label_of(part, self.label)
        if self.field in part.column_names:
            values = chunk(part, self.field)
        else:
            values = pa.nulls(part.num_rows, pa.float64())
        bins = pc.round(pc.divide(values, RESOLUTION[self.field])).cast(pa.int64(), safe=False)
        rows: Any = pa.table({"uuid": codes(part), "name": labels.indices, "bin": bins, "value": values})
        rows = rows.filter(values.is_valid()).combine_chunks()
        grouped = group(rows, ("uuid", "name", "bin"), [("value", a) for a in ("count", "sum", "max")])
        return with_words(part, _with_names(renamed(grouped, ("count", "sum", "max"), keys=3), labels))

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge into one row per value of the label and bin, whatever the GPU."""
        how = [("count", "sum"), ("sum", "sum"), ("max", "max")]
        return renamed(group(taken, ("name", "bin"), how), ("count", "sum", "max"), keys=2)


@dataclass(frozen=True, slots=True)
class Ranks(OfField):
    """Of each GPU and each value of a field: how many records.

    Where these are too many, values of three equal digits are taken together, as the highest of them.
    """

    in_any_order: ClassVar[bool] = True

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, value, count."""
        grouped = group(known(part, self.field), ("uuid", "value"), [("ms", "count")])
        return with_words(part, renamed(grouped, ("count",), keys=2))

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge into one row per GPU and value."""
        merged = renamed(group(taken, ("uuid", "value"), [("count", "sum")]), ("count",), keys=2)
        return merged if merged.num_rows <= MOST_RANKS else coarsen(merged)


def coarsen(ranks: pa.Table) -> pa.Table:
    """Take the values of each GPU together that agree in their first three digits."""
    values = chunk(ranks, "value")
    magnitude = pc.floor(pc.log10(pc.abs(pc.if_else(pc.equal(values, 0), 1.0, values))))
    scale = pc.power(10.0, pc.subtract(magnitude, 2.0))
    rows = ranks.append_column("digits", pc.multiply(pc.round(pc.divide(values, scale)), scale))
    grouped = group(rows, ("uuid", "digits"), [("value", "max"), ("count", "sum")])
    return renamed(grouped, ("value", "count"), keys=2).select(["uuid", "value", "count"])


def _with_names(grouped: pa.Table, labels: pa.DictionaryArray) -> pa.Table:
    names = text_of(chunk(grouped, "name"), labels.dictionary)
    return grouped.set_column(grouped.column_names.index("name"), "name", names)
