"""Measures in which the order of a GPU's records matters: counters, power over time, codes that change.

What lies between two parts is in neither: each part keeps the first and the last value of each GPU, and
merging adds the step from one part's last to the next one's first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.fleet.measures import OfField, group, in_time, known, renamed, with_words
from shared.records import chunk

#: Steps in time are told apart by so much.
STEP_MS = 100
#: A longer step is a gap: what happened in it is not known.
LONGEST_STEP_MS = 300_000
#: A step that is so many times longer than a GPU's median step is a gap too.
_GAP_STEPS = 5


@dataclass(frozen=True, slots=True)
class Rises(OfField):
    """Of each GPU that reported a counter: its first and last value, its rise between, and when it rose.

    A counter that fell was reset: what it shows then, it has risen by since.
    """

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, first, first_ms, last, last_ms, rise, first_rise_ms, last_rise_ms."""
        rows = known(part, self.field)
        value, ms = chunk(rows, "value"), chunk(rows, "ms")
        rise = _within(rows, _rise(value))
        columns = {"uuid": chunk(rows, "uuid"), "value": value, "ms": ms, "rise": rise}
        columns["rose_ms"] = pc.if_else(pc.greater(rise, 0), ms, None)
        ends = [("value", "first"), ("ms", "first"), ("value", "last"), ("ms", "last")]
        grouped = group(columns, "uuid", [*ends, ("rise", "sum"), ("rose_ms", "min"), ("rose_ms", "max")])
        return with_words(part, renamed(grouped, _RISES))

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge into one row per GPU."""
        taken = in_time(taken)
        start, before = chunk(taken, "first"), _before(chunk(taken, "last"))
        between = pc.if_else(pc.less(start, before), start, pc.subtract(start, before))
        between = _within(taken, between)
        rose = pc.if_else(pc.greater(between, 0), chunk(taken, "first_ms"), None)
        columns = {name: chunk(taken, name) for name in ("uuid", "first", "first_ms", "last", "last_ms")}
        columns["rise"] = pc.add(chunk(taken, "rise"), between)
        columns["first_rise_ms"] = pc.min_element_wise(rose, chunk(taken, "first_rise_ms"))
        columns["last_rise_ms"] = pc.max_element_wise(rose, chunk(taken, "last_rise_ms"))
        how = [("first", "first"), ("first_ms", "min"), ("last", "last"), ("last_ms", "max"), ("rise", "sum")]
        how += [("first_rise_ms", "min"), ("last_rise_ms", "max")]
        return renamed(group(columns, "uuid", how), _RISES)


_RISES = ("first", "first_ms", "last", "last_ms", "rise", "first_rise_ms", "last_rise_ms")


@dataclass(frozen=True, slots=True)
class Areas(OfField):
    """Of each GPU that reported a rate: what it amounts to, value times seconds, by the length of the steps.

    A row of `length` STEP_MS is what was taken of steps so long: how many, and their area. A row without a
    length holds the ends of a part. Merging leaves out what are gaps: the steps over LONGEST_STEP_MS, and
    those over five times the GPU's median.
    """

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, length, count, area, first, first_ms, last, last_ms."""
        rows = known(part, self.field)
        steps = _steps(rows, chunk(rows, "value"), _before(chunk(rows, "value")), _before(chunk(rows, "ms")))
        how = [("value", "first"), ("ms", "first"), ("value", "last"), ("ms", "last")]
        ends = renamed(group(rows, "uuid", how), ("first", "first_ms", "last", "last_ms"))
        return with_words(part, pa.concat_tables([steps, ends], promote_options="default").combine_chunks())

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge into one row per GPU: uuid, area, null where every step is a gap."""
        is_end = chunk(taken, "length").is_null()
        ends = in_time(taken.filter(is_end).combine_chunks())
        rows = pa.table({"uuid": chunk(ends, "uuid"), "ms": chunk(ends, "first_ms")})
        between = _steps(
            rows, chunk(ends, "first"), _before(chunk(ends, "last")), _before(chunk(ends, "last_ms"))
        )
        inside = taken.filter(pc.invert(is_end)).select(between.column_names)
        steps = pa.concat_tables([inside, between]).unify_dictionaries().combine_chunks()
        steps = renamed(
            group(steps, ("uuid", "length"), [("count", "sum"), ("area", "sum")]), ("count", "area"), keys=2
        )
        steps = steps.filter(pc.less_equal(chunk(steps, "length"), _longest(steps))).combine_chunks()
        areas = renamed(group(steps, "uuid", [("area", "sum")]), ("area",))
        everyone = renamed(group(ends, "uuid", [("first", "count")]), ("parts",))
        places = pc.index_in(
            chunk(everyone, "uuid").cast(pa.string()), chunk(areas, "uuid").cast(pa.string())
        )
        return pa.table({"uuid": chunk(everyone, "uuid"), "area": chunk(areas, "area").take(places)})


def _longest(steps: pa.Table) -> pa.Array:
    """Find, row by row, how long a step of this GPU may be: five times its median."""
    rows = pa.table({"uuid": chunk(steps, "uuid").indices, "length": chunk(steps, "length")})
    order = pc.sort_indices(rows, sort_keys=[("uuid", "ascending"), ("length", "ascending")])
    median = quantile(
        chunk(rows, "uuid").take(order),
        chunk(steps, "length").take(order),
        chunk(steps, "count").take(order),
        0.5,
    )
    places = pc.index_in(chunk(rows, "uuid"), median.column("group"))
    return pc.multiply(chunk(median, "value").take(places), _GAP_STEPS)


def quantile(groups: pa.Array, values: pa.Array, counts: pa.Array, share: float) -> pa.Table:
    """Find a quantile of each group, interpolated between the two nearest values: group, value.

    Args:
        groups: Numbers; those that are equal come together, with their values in order.
        values: Of the groups.
        counts: How often each value is there.
        share: Which quantile, 0 to 1.
    """
    upto = pc.cumulative_sum(counts)
    rows = pa.table({"group": groups, "value": values, "upto": upto, "count": counts})
    totals = group(rows, "group", [("upto", "max"), ("count", "sum")])
    places = pc.index_in(groups, chunk(totals, "group"))
    before = pc.subtract(chunk(totals, "upto_max"), chunk(totals, "count_sum"))
    within = pc.cast(pc.subtract(upto, before.take(places)), pa.float64())
    wanted = pc.multiply(pc.cast(pc.subtract(chunk(totals, "count_sum"), 1), pa.float64()), share)
    at = []
    for place in (pc.floor(wanted), pc.ceil(wanted)):
        reached = rows.filter(pc.greater(within, place.take(places)))
        at.append(chunk(group(reached, "group", [("value", "first")]), "value_first").cast(pa.float64()))
    between = pc.multiply(pc.subtract(at[1], at[0]), pc.subtract(wanted, pc.floor(wanted)))
    return pa.table({"group": chunk(totals, "group"), "value": pc.add(at[0], between)})


@dataclass(frozen=True, slots=True)
class Changes(OfField):
    """Of each GPU that reported a field: its first value, and whenever it was another than before."""

    def take(self, part: pa.Table) -> pa.Table:
        """Take uuid, ms, value."""
        return with_words(part, _changes(known(part, self.field)))

    def merge(self, taken: pa.Table) -> pa.Table:
        """Merge, in order of time for each GPU."""
        return _changes(in_time(taken, "ms"))


def _changes(rows: pa.Table) -> pa.Table:
    value = chunk(rows, "value")
    changed = pc.fill_null(pc.not_equal(value, _before(value)), fill_value=True)
    return rows.filter(pc.or_(changed, pc.invert(_follows(rows)))).combine_chunks()


def _before(values: pa.Array) -> pa.Array:
    """Move values one row down: each row has that of the row before it, the first has null."""
    return pa.concat_arrays([pa.nulls(min(len(values), 1), values.type), values[:-1]])


def _follows(rows: pa.Table) -> pa.Array:
    """Tell of each row whether the row before it is of the same GPU."""
    uuids: Any = chunk(rows, "uuid")
    uuids = uuids.indices if pa.types.is_dictionary(uuids.type) else uuids
    return pc.fill_null(pc.equal(uuids, _before(uuids)), fill_value=False)


def _within(rows: pa.Table, steps: pa.Array) -> pa.Array:
    """Leave steps from one GPU to the next out: 0 for them."""
    return pc.if_else(_follows(rows), steps, 0.0)


def _rise(values: pa.Array) -> pa.Array:
    before = _before(values)
    return pc.if_else(pc.less(values, before), values, pc.subtract(values, before))


def _steps(rows: pa.Table, value: pa.Array, value_before: pa.Array, ms_before: pa.Array) -> pa.Table:
    """Sum the areas of steps that are no gaps for certain: uuid, length, count, area."""
    took = pc.subtract(chunk(rows, "ms"), ms_before)
    area = pc.multiply(pc.divide(pc.add(value, value_before), 2000.0), took.cast(pa.float64()))
    steps = pa.table({"uuid": chunk(rows, "uuid"), "length": pc.divide(took, STEP_MS), "area": area})
    steps = steps.filter(pc.and_(_follows(rows), pc.less_equal(took, LONGEST_STEP_MS))).combine_chunks()
    grouped = group(steps, ("uuid", "length"), [("area", "count"), ("area", "sum")])
    return renamed(grouped, ("count", "area"), keys=2)
