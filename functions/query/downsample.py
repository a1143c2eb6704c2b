"""Records over a step of time: many become one, field by field; pure, and in columns throughout.

A bucket is [k * step, (k + 1) * step), counted from the epoch, of one GPU; its record stands at its start.
What was not reported is not made up: a field without a value in a bucket is null there, also as a count, and
a bucket without any yields no record.

Each chunk is reduced by itself (sums and counts for an average), and only the bucket at its end waits for the
next chunk. So memory is a chunk, whatever is asked for; but p95 is exact, which takes all values of the
bucket that is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shared.api.records import Aggregate
from shared.records import KEY, LABELS, TIMESTAMP, chunk, concat, metric_names, text_of

#: How values become one, and how what became of the parts of a bucket does.
_REDUCED = {
    "avg": (("sum", "count"), ("sum",)),
    "min": (("min",), ("min",)),
    "max": (("max",), ("max",)),
    "last": (("last",), ("last",)),
    "count": (("count",), ("sum",)),
}
#: What stands beside the sum of a field on the way to its average; no metric can be called so.
_COUNT = "@count"
_P95 = 0.95


def iter_downsampled(
    parts: Iterable[pa.Table], step_ms: int, agg: Aggregate, *, descending: bool = False
) -> Iterator[pa.Table]:
    """Make one record of all that one GPU has in a bucket; each field by itself, nulls do not count.

    `p95` is interpolated between the two nearest values, as the quantiles of pyarrow and Prometheus are;
    `count` is the number of values. A label is the last one that the bucket has.

    Args:
        parts: Resolved records, all of a GPU together and in order of time; a GPU or a bucket may go over
            from one part to the next. They may differ in columns.
        step_ms: The length of a bucket.
        agg: What becomes of the values of a field.
        descending: The records of each GPU come newest first. So do the answers then.

    Yields:
        Records in the order of `parts`: uuid, timestamp, labels and metrics (all double), no version; never
        an empty part.
    """
    buckets = (_bucketed(part, step_ms) for part in parts if part.num_rows)
    if agg == "p95":
        done = (_take_p95(table, descending) for table in _iter_whole(buckets, concat))
    else:
        first, again = _REDUCED[agg]
        reduced = (_reduce(table, first, descending) for table in buckets)
        whole = _iter_whole(reduced, lambda tables: _reduce(concat(tables), again, descending))
        done = (_finish(table, agg) for table in whole)
    for table in done:
        found = _reported(table)
        if found.num_rows:
            yield found


def iter_aligned(parts: Iterable[pa.Table], align_ms: int, *, descending: bool = False) -> Iterator[pa.Table]:
    """Join records a moment apart: of each field the last value within a bucket, at the bucket's start.

    That is what puts together a GPU's metrics that were asked for one after the other. Records on both sides
    of a bucket's border stay apart, however near they are. Otherwise as `iter_downsampled`.
    """
    return iter_downsampled(parts, align_ms, "last", descending=descending)


def _bucketed(part: pa.Table, step_ms: int) -> pa.Table:
    """Set the times of records to the start of their bucket, and leave the version out."""
    part = concat([part])
    ms = chunk(part, "timestamp").cast(pa.int64())
    step = pa.scalar(step_ms, pa.int64())
    start = pc.multiply(pc.divide(ms, step), step)
    # Arrow divides towards zero: before 1970 that is the end of the bucket.
    start = pc.if_else(pc.greater(start, ms), pc.subtract(start, step), start)
    names = [*(name for name in LABELS if name in part.column_names), *metric_names(part)]
    columns = {"uuid": chunk(part, "uuid"), "timestamp": start.cast(TIMESTAMP)}
    return pa.table(columns | {name: chunk(part, name) for name in names})


def _starts(table: pa.Table) -> pa.Array:
    """Mark the rows with which a bucket begins."""
    codes = chunk(table, "uuid").indices
    times = chunk(table, "timestamp").cast(pa.int64())
    other = pc.or_(pc.not_equal(codes[1:], codes[:-1]), pc.not_equal(times[1:], times[:-1]))
    return pa.concat_arrays([pa.array([True]), other])


def _iter_whole(
    parts: Iterable[pa.Table], join: Callable[[Sequence[pa.Table]], pa.Table]
) -> Iterator[pa.Table]:
    """Cut anew, so that no bucket goes over into the next table; `join` puts the parts of one together."""
    held: list[pa.Table] = []
    for part in parts:
        places = pc.indices_nonzero(_starts(part))
        begin, end = 0, places[-1].as_py()
        if held and _first_key(held[0]) == _first_key(part):
            if not end:
                held.append(part)
                continue
            begin = places[1].as_py()
            held.append(part.slice(0, begin))
        pieces = [join(held)] if held else []
        if begin < end:
            pieces.append(part.slice(begin, end - begin))
        if pieces:
            yield concat(pieces)
        held = [part.slice(end)]
    if held:
        yield join(held)


def _first_key(table: pa.Table) -> tuple[Any, Any]:
    return table.column("uuid")[0].as_py(), table.column("timestamp")[0]


class _Buckets:
    """The rows of a table by bucket."""

    def __init__(self, table: pa.Table, starts: pa.Array, *, descending: bool) -> None:
        self._table = table
        self._first = pc.indices_nonzero(starts)
        #: Where the latest row of each bucket stands, and what Arrow calls the last one in time.
        self._latest = self._first
        if not descending:
            ends = pa.array([table.num_rows], pa.uint64())
            self._latest = pc.subtract(pa.concat_arrays([self._first[1:], ends]), pa.scalar(1, pa.uint64()))
        self._last = "first" if descending else "last"
        self.number = pc.cumulative_sum(starts.cast(pa.int32()))

    def key_and_labels(self) -> dict[str, pa.Array]:
        """Take the key of each bucket, and of each label the last value."""
        names = [name for name in LABELS if name in self._table.column_names]
        columns = {name: chunk(self._table, name).take(self._first) for name in KEY}
        return columns | self.last(names)

    def last(self, names: Sequence[str]) -> dict[str, pa.Array]:
        """Take the last value of columns in each bucket that is not null."""
        columns = {name: chunk(self._table, name) for name in names}
        gaps = {
            n: v.indices if pa.types.is_dictionary(v.type) else v for n, v in columns.items() if v.null_count
        }
        grouped = self.group(gaps, [self._last])
        out = {}
        for name, values in columns.items():
            if name not in gaps:
                out[name] = values.take(self._latest)
                continue
            found = chunk(grouped, f"{name}_{self._last}")
            if pa.types.is_dictionary(values.type):
                found = text_of(found, values.dictionary)
            out[name] = found
        return out

    def group(self, columns: Mapping[str, pa.Array], functions: Sequence[str]) -> pa.Table:
        """Let Arrow make one value of those of each bucket, in columns called `<name>_<function>`."""
        if not columns:
            return None
        rows = pa.table({**columns, "": self.number}).group_by("", use_threads=False)
        return rows.aggregate([(name, function) for name in columns for function in functions])


def _reduce(table: pa.Table, functions: Sequence[str], descending: bool) -> pa.Table:
    """Make one row of each bucket: per metric what Arrow's functions make of its values.

    What the first one makes has the metric's name; a count beside it has _COUNT behind the name.
    """
    starts = _starts(table)
    buckets = _Buckets(table, starts, descending=descending)
    names = metric_names(table)
    columns = buckets.key_and_labels()
    if functions == ("last",):
        return pa.table(columns | buckets.last(names))
    grouped = buckets.group({name: chunk(table, name) for name in names}, functions)
    for place, function in enumerate(functions):
        columns |= {name + _COUNT * place: chunk(grouped, f"{name}_{function}") for name in names}
    return pa.table(columns)


def _finish(table: pa.Table, agg: Aggregate) -> pa.Table:
    """Make averages of sums and counts, and numbers of counts."""
    names = [name for name in metric_names(table) if not name.endswith(_COUNT)]
    columns = {name: chunk(table, name) for name in table.column_names if name not in metric_names(table)}
    for name in names:
        values = chunk(table, name)
        if agg == "avg":
            values = pc.divide(values, chunk(table, name + _COUNT).cast(pa.float64()))
        elif agg == "count":
            values = pc.if_else(pc.equal(values, 0), None, values.cast(pa.float64()))
        columns[name] = values
    return pa.table(columns)


def _take_p95(table: pa.Table, descending: bool) -> pa.Table:
    """Make one row of each bucket, every metric its 95th percentile."""
    buckets = _Buckets(table, _starts(table), descending=descending)
    columns = buckets.key_and_labels()
    metrics = {name: chunk(table, name) for name in metric_names(table)}
    counts = buckets.group(metrics, ["count"])
    for name, values in metrics.items():
        columns[name] = _quantiles(values, buckets.number, chunk(counts, f"{name}_count"))
    return pa.table(columns)


def _quantiles(values: pa.Array, number: pa.Array, counts: pa.Array) -> pa.Array:
    """Find the 95th percentile of each bucket: row by row its number, and how many values each has."""
    known = values.is_valid()
    values, number = values.filter(known), number.filter(known)
    # A single number to sort by, the bucket's and then the value's: three times faster than two.
    encoded = values.dictionary_encode()
    rank = pc.sort_indices(pc.sort_indices(encoded.dictionary)).cast(pa.int64()).take(encoded.indices)
    key = pc.add(pc.multiply(number.cast(pa.int64()), len(encoded.dictionary)), rank)
    values = values.take(pc.sort_indices(key))
    ends = pc.cumulative_sum(counts)
    above = pc.multiply(pc.subtract(counts, 1).cast(pa.float64()), _P95)
    whole = pc.floor(above)
    low = pc.add(pc.subtract(ends, counts), whole.cast(pa.int64()))
    low = pc.if_else(pc.equal(counts, 0), None, low)
    high = pc.min_element_wise(pc.add(low, 1), pc.subtract(ends, 1), skip_nulls=False)
    below = values.take(low)
    return pc.add(below, pc.multiply(pc.subtract(values.take(high), below), pc.subtract(above, whole)))


def _reported(table: pa.Table) -> pa.Table:
    """Leave out the buckets in which no metric has a value."""
    known = None
    for name in metric_names(table):
        values = chunk(table, name)
        if not values.null_count:
            return table
        known = values.is_valid() if known is None else pc.or_(known, values.is_valid())
    return table.slice(0, 0) if known is None else table.filter(known)
