"""Records over a step of time: held against an implementation that goes through them one by one."""

from __future__ import annotations

import math
from itertools import groupby, pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.query.downsample import iter_aligned, iter_downsampled
from shared.records import TEXT, TIMESTAMP, with_version

AGGREGATES = ("avg", "min", "max", "last", "p95", "count")
VALUE = st.one_of(
    st.none(), st.sampled_from([0.0, -3.5, 0.1, 2.25, 1e9, 1 / 3]), st.integers(0, 50).map(float)
)
ROW = st.fixed_dictionaries({
    "uuid": st.sampled_from(["GPU-b", "GPU-a", "GPU-c"]),
    "timestamp": st.integers(-4000, 9000),
    "m": VALUE,
    "n": VALUE,
    "pod": st.sampled_from(["p", "q", None]),
    "hostname": st.sampled_from(["h", "i"]),
})  # fmt: skip
ROWS = st.lists(ROW, max_size=40, unique_by=lambda r: (r["uuid"], r["timestamp"]))
CUTS = st.lists(st.integers(0, 40), max_size=8)


def table_of(rows, *, leave_out=True):
    """Make a part as a segment has it: columns that no row reports are left out."""
    columns = {
        "uuid": pa.array([r["uuid"] for r in rows], TEXT),
        "timestamp": pa.array([r["timestamp"] for r in rows], TIMESTAMP),
        "hostname": pa.array([r["hostname"] for r in rows], TEXT),
        "pod": pa.array([r["pod"] for r in rows], TEXT),
        "m": pa.array([r["m"] for r in rows], pa.float64()),
        "n": pa.array([r["n"] for r in rows], pa.float64()),
    }
    table = pa.table({k: v for k, v in columns.items() if not leave_out or v.null_count < len(v)})
    return with_version(table, received_ms=1, upload_id="u", number=0)


def cut(rows, places):
    edges = [0, *sorted(min(p, len(rows)) for p in places), len(rows)]
    return [table_of(rows[a:b]) for a, b in pairwise(edges)]


def reduce_values(values, agg):
    """Make one of values in order of time."""
    if not values:
        return None
    ordered = sorted(values)
    above = (len(values) - 1) * 0.95
    low, high = ordered[math.floor(above)], ordered[math.ceil(above)]
    return {
        "avg": sum(values) / len(values),
        "min": ordered[0],
        "max": ordered[-1],
        "last": values[-1],
        "count": float(len(values)),
        "p95": low + (high - low) * (above - math.floor(above)),
    }[agg]


def by_hand(rows, step, agg):
    """Do row by row what is asked for; rows in order of time within each GPU."""
    out = []
    for (uuid, number), group in groupby(rows, key=lambda r: (r["uuid"], r["timestamp"] // step)):
        members = list(group)
        record = {"uuid": uuid, "timestamp": number * step}
        for name in ("m", "n"):
            record[name] = reduce_values([r[name] for r in members if r[name] is not None], agg)
        for name in ("pod", "hostname"):
            record[name] = next((r[name] for r in reversed(members) if r[name] is not None), None)
        if record["m"] is not None or record["n"] is not None:
            out.append(record)
    return out


def as_rows(parts):
    out = []
    for part in parts:
        assert part.num_rows
        assert part.schema.field("timestamp").type == TIMESTAMP
        assert "upload_id" not in part.column_names
        ms = part.column("timestamp").cast(pa.int64()).to_pylist()
        for row, time in zip(part.to_pylist(), ms, strict=True):
            out.append({n: row.get(n) for n in ("uuid", "m", "n", "pod", "hostname")} | {"timestamp": time})
    return out


def expect_equal(found, wanted):
    assert [(r["uuid"], r["timestamp"], r["pod"], r["hostname"]) for r in found] == [
        (r["uuid"], r["timestamp"], r["pod"], r["hostname"]) for r in wanted
    ]
    for name in ("m", "n"):
        assert [r[name] for r in found] == [
            v if v is None else pytest.approx(v, rel=1e-12, abs=1e-12) for v in (r[name] for r in wanted)
        ]


@settings(max_examples=400, deadline=None)
@given(ROWS, CUTS, st.sampled_from([1, 7, 1000, 2500, 100_000]), st.sampled_from(AGGREGATES))
def test_each_bucket_is_what_going_through_it_row_by_row_says(rows, cuts, step, agg):
    rows.sort(key=lambda r: (r["uuid"], r["timestamp"]))
    expect_equal(as_rows(iter_downsampled(cut(rows, cuts), step, agg)), by_hand(rows, step, agg))


@settings(max_examples=300, deadline=None)
@given(ROWS, CUTS, st.sampled_from([1000, 2500, 100_000]), st.sampled_from(AGGREGATES), st.booleans())
def test_the_newest_first_is_the_same_backwards(rows, cuts, step, agg, uuids_backwards):
    rows.sort(key=lambda r: (r["uuid"], r["timestamp"]))
    wanted = by_hand(rows, step, agg)
    for each in (rows, wanted):
        each.sort(key=lambda r: r["timestamp"], reverse=True)
        each.sort(key=lambda r: r["uuid"], reverse=uuids_backwards)
    expect_equal(as_rows(iter_downsampled(cut(rows, cuts), step, agg, descending=True)), wanted)


def test_metrics_a_second_apart_come_together():
    rows = [
        {"uuid": "GPU-a", "timestamp": 34_000, "m": 1.0, "n": None, "pod": "p", "hostname": "h"},
        {"uuid": "GPU-a", "timestamp": 34_900, "m": None, "n": 2.0, "pod": None, "hostname": "h"},
        {"uuid": "GPU-a", "timestamp": 35_000, "m": None, "n": 3.0, "pod": None, "hostname": "h"},
    ]
    found = as_rows(iter_aligned(cut(rows, [1]), 5000))
    assert found == [
        {"uuid": "GPU-a", "timestamp": 30_000, "m": 1.0, "n": 2.0, "pod": "p", "hostname": "h"},
        {"uuid": "GPU-a", "timestamp": 35_000, "m": None, "n": 3.0, "pod": None, "hostname": "h"},
    ]


def test_a_bucket_of_many_parts_is_reduced_as_it_comes():
    """An average over all time holds a row per part, not the records."""
    rows = [
        {"uuid": "GPU-a", "timestamp": i, "m": float(i), "n": None, "pod": None, "hostname": "h"}
        for i in range(1000)
    ]
    for agg, value in (("avg", 499.5), ("p95", 949.05), ("count", 1000.0), ("last", 999.0)):
        [found] = as_rows(iter_downsampled(cut(rows, range(0, 1000, 10)), 10_000, agg))
        assert found["m"] == pytest.approx(value)


def test_nothing_makes_nothing():
    assert list(iter_downsampled([], 1000, "avg")) == []
    bare = {"uuid": "GPU-a", "timestamp": 1, "m": None, "n": None, "pod": "p", "hostname": "h"}
    for agg in AGGREGATES:
        assert list(iter_downsampled([table_of([bare]), table_of([])], 1000, agg)) == []
        assert list(iter_downsampled([table_of([bare], leave_out=False)], 1000, agg)) == []
