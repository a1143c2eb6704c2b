"""What is taken of records: a few rows per GPU, in tables that merge.

A part is a table of resolved records, sorted by (uuid, timestamp). A measure takes a table of it that has a
column `uuid`; tables of several parts, put below each other, merge into one, provided that the records of a
GPU in one part are all earlier or all later than those in another. Fields are taken where they are not null:
a GPU that never reported one is not in its table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from shared.records import TEXT, chunk, text_of

#: An aggregate that is null where the last row's value is.
_WITH_NULLS = pc.ScalarAggregateOptions(skip_nulls=False)
#: The labels that come and go with what runs on a GPU.
RUNNING = ("pod", "namespace")


class Measure(Protocol):
    """Something that is taken of records; a value object, which names what it took in a cache."""

    #: Whether what was merged merges again, whatever the order: what has many rows is merged as it comes.
    in_any_order: ClassVar[bool]
    #: Whether it is merged GPU by GPU; else its `uuid` is only there to leave some of them out.
    by_gpu: ClassVar[bool]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads beside uuid and timestamp."""

    def take(self, part: pa.Table) -> pa.Table:
        """Take it of a part."""

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge what was taken of parts."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Of each GPU: rows, first_ms, last_ms, and the labels RUNNING as of the last record."""

    in_any_order: ClassVar[bool] = False
    by_gpu: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return RUNNING

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, rows, first_ms, last_ms, pod, namespace."""
        rows: dict[str, Any] = {"uuid": codes(part), "ms": times(part)}
        for name in RUNNING:
            labels = label_of(part, name)
            rows[name] = labels.indices
        last = [(name, "last", _WITH_NULLS) for name in RUNNING]
        grouped = group(rows, "uuid", [("ms", "count"), ("ms", "first"), ("ms", "last"), *last])
        found = {
            "uuid": words_of(part, grouped.column("uuid")),
            "rows": grouped.column("ms_count"),
            "first_ms": grouped.column("ms_first"),
            "last_ms": grouped.column("ms_last"),
        }
        for name in RUNNING:
            indices = chunk(grouped, f"{name}_last")
            found[name] = text_of(indices, label_of(part, name).dictionary)
        return pa.table(found)

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge into one row per GPU."""
        taken = in_time(taken)
        rows = {n: chunk(taken, n) for n in ("uuid", "rows", "first_ms", "last_ms")}
        rows |= {n: chunk(taken, n).cast(pa.string()) for n in RUNNING}
        last = [(name, "last", _WITH_NULLS) for name in RUNNING]
        how = [("rows", "sum"), ("first_ms", "min"), ("last_ms", "max"), *last]
        return renamed(group(rows, "uuid", how), ("rows", "first_ms", "last_ms", *RUNNING))


@dataclass(frozen=True, slots=True)
class OfField:
    """What measures of one field have in common."""

    field: str
    in_any_order: ClassVar[bool] = False
    by_gpu: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return (self.field,)


@dataclass(frozen=True, slots=True)
class Stats(OfField):
    """Of each GPU that reported a field: count, sum, min, max, the first and the last value with its time."""

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, count, sum, min, max, first, first_ms, last, last_ms."""
        rows = known(part, self.field)
        how = [("value", a) for a in ("count", "sum", "min", "max", "first", "last")]
        grouped = group(rows, "uuid", [*how, ("ms", "first"), ("ms", "last")])
        names = ("count", "sum", "min", "max", "first", "last", "first_ms", "last_ms")
        return with_words(part, renamed(grouped, names))

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge into one row per GPU."""
        how = {
            "count": "sum", "sum": "sum", "min": "min", "max": "max",
            "first": "first", "last": "last", "first_ms": "min", "last_ms": "max",
        }  # fmt: skip
        return renamed(group(in_time(taken), "uuid", list(how.items())), tuple(how))


@dataclass(frozen=True, slots=True)
class Values(OfField):
    """Of each GPU and each value of a field: in how many records it was, in which first and last."""

    in_any_order: ClassVar[bool] = True

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, value, count, first_ms, last_ms."""
        rows = known(part, self.field)
        grouped = group(rows, ("uuid", "value"), [("ms", "count"), ("ms", "min"), ("ms", "max")])
        return with_words(part, renamed(grouped, ("count", "first_ms", "last_ms"), keys=2))

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge into one row per GPU and value."""
        how = {"count": "sum", "first_ms": "min", "last_ms": "max"}
        return renamed(group(taken, ("uuid", "value"), list(how.items())), tuple(how), keys=2)


def codes(part: pa.Table) -> pa.Array:
    """Return, row by row, which GPU it is of, as a number within the part."""
    return chunk(part, "uuid").indices


def times(part: pa.Table) -> pa.Array:
    """Return the times of records, epoch ms."""
    return chunk(part, "timestamp").cast(pa.int64())


def label_of(part: pa.Table, name: str) -> pa.DictionaryArray:
    """Return a label, all null where no record has it."""
    if name in part.column_names:
        return chunk(part, name)
    return pa.nulls(part.num_rows, TEXT)


def known(part: pa.Table, field: str) -> pa.Table:
    """Return uuid, ms and value of the records that have a field."""
    if field not in part.column_names:
        return pa.table({
            "uuid": pa.array([], pa.int32()),
            "ms": pa.array([], pa.int64()),
            "value": pa.array([], pa.float64()),
        })  # fmt: skip
    values = chunk(part, field)
    rows = pa.table({"uuid": codes(part), "ms": times(part), "value": values})
    return rows.filter(values.is_valid()).combine_chunks() if values.null_count else rows


def group(rows: Any, by: str | Sequence[str], how: Iterable[Any]) -> pa.Table:
    """Aggregate rows; within a group, they stay in their order."""
    table = rows if isinstance(rows, pa.Table) else pa.table(rows)
    return table.group_by(by, use_threads=False).aggregate(list(how))


def renamed(grouped: pa.Table, names: Sequence[str], keys: int = 1) -> pa.Table:
    """Name the aggregates, which come after the keys."""
    return grouped.rename_columns([*grouped.column_names[:keys], *names]).combine_chunks()


def words_of(part: pa.Table, numbers: Any) -> pa.DictionaryArray:
    """Turn numbers of GPUs within a part back into their uuids."""
    flat = numbers.combine_chunks() if isinstance(numbers, pa.ChunkedArray) else numbers
    return pa.DictionaryArray.from_arrays(flat, chunk(part, "uuid").dictionary)


def with_words(part: pa.Table, taken: pa.Table) -> pa.Table:
    """Turn the numbers in a table's column uuid into uuids."""
    return taken.set_column(taken.column_names.index("uuid"), "uuid", words_of(part, taken.column("uuid")))


def in_time(taken: pa.Table, by: str = "first_ms") -> pa.Table:
    """Sort what was taken of several parts by GPU and time; uuids become numbers for it, and words again."""
    rows = pa.table({"uuid": chunk(taken, "uuid").indices, by: chunk(taken, by)})
    order = pc.sort_indices(rows, sort_keys=[("uuid", "ascending"), (by, "ascending")])
    return taken.take(order).combine_chunks()
