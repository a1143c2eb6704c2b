"""The values of metrics: garbage becomes null and is counted; the long form is turned into records."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from shared.fields import BLANK_RANGES, Source, find_source, own_source
from shared.ingest.cells import bad_cells
from shared.ingest.report import BadCell
from shared.records import RESERVED, concat, last_by_key

#: Different metrics of one file in the long form; DCGM has some 400 fields in all.
MAX_METRICS = 512
#: Cells, null ones included, that are spread out at a time: 32 MB of doubles.
_PIVOT_CELLS = 4_000_000

_NO_NUMBER = pa.scalar(None, pa.float64())
_LARGEST = sys.float_info.max
_SMALLEST_BLANK = min(low for low, _ in BLANK_RANGES)

Lines = Callable[[], pa.Array]


def check_range(
    values: pa.Array, source: Source, lines: Lines, head: str
) -> tuple[pa.Array, list[BadCell], int]:
    """Make null what no true value can be; returns the values in the field's unit, what was bad, how many.

    DCGM's blanks mean that nothing was reported: they become null and are not counted.
    """
    low, high = source.field.minimum / source.factor, source.field.maximum / source.factor
    if _clean(values, low, high):
        return _convert(values, source), [], 0
    blank = pc.is_nan(values)
    for first, last in BLANK_RANGES:
        inside = pc.and_(pc.greater_equal(values, first), pc.less_equal(values, last))
        blank = pc.or_(blank, inside)
    values = pc.if_else(pc.fill_null(blank, False), _NO_NUMBER, values)  # noqa: FBT003
    finite = pc.is_finite(values)
    inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
    bad = pc.invert(pc.fill_null(pc.and_(finite, inside), True))  # noqa: FBT003
    count = pc.sum(bad).as_py() or 0
    if not count:
        return _convert(values, source), [], 0
    reason = _range_reason(source, low, high)
    cells = bad_cells(values, bad, lines(), head, reason)
    return _convert(pc.if_else(bad, _NO_NUMBER, values), source), cells, count


def _clean(values: pa.Array, low: float, high: float) -> bool:
    """Tell whether every value can be true; two comparisons cost a third of what `min_max` does."""
    above = pc.greater_equal(values, max(low, -_LARGEST))
    below = pc.less_equal(values, high) if high < _SMALLEST_BLANK else pc.less(values, _SMALLEST_BLANK)
    # NaN is in no range; null is passed over.
    return pc.all(pc.and_(above, below)).as_py() is not False


def _convert(values: pa.Array, source: Source) -> pa.Array:
    return values if source.factor == 1.0 else pc.multiply(values, source.factor)


def _range_reason(source: Source, low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "not a finite number"
    name = source.field.name
    if math.isinf(high):
        return f"out of range: {name} is {low:g} or more"
    return f"out of range: {name} lies between {low:g} and {high:g}"


def _source_of(metric: str) -> Source | None:
    source = find_source(metric) or own_source(metric)
    return None if source is None or source.field.name in RESERVED else source


def pivot(
    columns: Mapping[str, pa.Array],
    metric: pa.Array,
    value: pa.Array,
    lines: Lines,
    head: str,
    admit: Callable[[list[str]], set[str]],
) -> tuple[pa.Table, list[BadCell], int]:
    """Turn rows of one metric each into records: one row per (uuid, timestamp), a column per metric.

    Per key and column the last line that has a value wins. `columns` begins with uuid and timestamp;
    `admit` tells which metrics the file may have. A key may come twice where there are many metrics: memory
    is bounded by pivoting a part of the rows at a time.
    """
    admitted = admit(metric.dictionary.to_pylist())
    step = max(_PIVOT_CELLS // max(len(admitted), 1), 1)
    parts: list[pa.Table] = []
    bad: list[BadCell] = []
    nulled = 0
    for start in range(0, len(metric), step):
        part, cells, count = _pivot_part(
            {name: values.slice(start, step) for name, values in columns.items()},
            metric.slice(start, step),
            value.slice(start, step),
            partial(_slice_lines, lines, start, step),
            head,
            admitted,
        )
        parts.append(part)
        bad += cells
        nulled += count
    return concat(parts), bad, nulled


def _slice_lines(lines: Lines, start: int, length: int) -> pa.Array:
    return lines().slice(start, length)


def _pivot_part(
    columns: Mapping[str, pa.Array],
    metric: pa.Array,
    value: pa.Array,
    lines: Lines,
    head: str,
    admitted: set[str],
) -> tuple[pa.Table, list[BadCell], int]:
    bad: list[BadCell] = []
    names = metric.dictionary.to_pylist()
    known = pa.array([name in admitted for name in names], pa.bool_()).take(metric.indices)
    refused = pc.and_(pc.invert(known), pc.is_valid(value))
    nulled = pc.sum(refused).as_py() or 0
    if nulled:
        reason = f"the file has more than {MAX_METRICS} different metrics"
        bad += bad_cells(metric.cast(pa.string()), refused, lines(), head, reason)
    metrics: dict[str, pa.Array] = {}
    for code, name in enumerate(names):
        if name not in admitted:
            continue
        rows = pc.equal(metric.indices, code)
        source = _source_of(name)
        own = pc.if_else(rows, value, _NO_NUMBER)
        if source is None:
            unnamed = pc.and_(rows, pc.is_valid(own))
            nulled += pc.sum(unnamed).as_py() or 0
            bad += bad_cells(
                metric.cast(pa.string()), unnamed, lines(), head, "not a name that a metric can have"
            )
            continue
        own, cells, count = check_range(own, source, lines, head)
        bad += cells
        nulled += count
        field = source.field.name
        metrics[field] = pc.coalesce(own, metrics[field]) if field in metrics else own
    return _group({**columns, **metrics}), bad, nulled


def _group(columns: Mapping[str, pa.Array]) -> pa.Table:
    times = columns["timestamp"].cast(pa.int64())
    low = pc.min(times).as_py()
    span = pc.max(times).as_py() - low + 1
    codes = columns["uuid"].indices.cast(pa.int64())
    key = pc.add(pc.multiply(codes, span), pc.subtract(times, low))
    return last_by_key(columns, key)
