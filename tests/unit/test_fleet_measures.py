"""What is taken of records and merged: by hand, and in any pieces the same as at once."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.query.fleet.energy import add_energy, sum_of_boards
from functions.query.fleet.measures import Spans, Stats, Values
from functions.query.fleet.parts import (
    as_text,
    cut_stretches,
    find_entangled,
    group_small,
    has_keys_twice,
    put_below,
)
from functions.query.fleet.series import Areas, Changes, Rises, quantile
from functions.query.fleet.spread import Bins, Members, Ranks, coarsen
from functions.query.fleet.utilization import count_members, spread
from shared.records import TIMESTAMP, sort_resolve, with_version
from shared.store.segment import SegmentInfo


def part(rows, **labels):
    """Records of (uuid, second, value), value under the name `v`; sorted."""
    table = pa.table(
        {
            "uuid": pa.array([r[0] for r in rows], pa.string()).dictionary_encode(),
            "timestamp": pa.array([int(r[1] * 1000) for r in rows], TIMESTAMP),
            "v": pa.array([r[2] for r in rows], pa.float64()),
            **{name: pa.array(values, pa.string()).dictionary_encode() for name, values in labels.items()},
        }
    )
    return sort_resolve(with_version(table, received_ms=1, upload_id="u", number=0))


def measured(measure, *parts):
    taken = [measure.take(p) for p in parts]
    if not measure.by_gpu:
        taken = [t.drop_columns(["uuid"]) for t in taken]
    return measure.merge(put_below(taken)).to_pylist()


def by_uuid(rows):
    return {row.pop("uuid"): row for row in rows}


# -- counters


def test_a_counter_rises_and_what_it_shows_after_a_reset_it_has_risen_by():
    [row] = measured(
        Rises("v"), part([("a", 0, 100), ("a", 10, 130), ("a", 20, None), ("a", 30, 5), ("a", 40, 5)])
    )
    assert row == {
        "uuid": "a", "first": 100, "first_ms": 0, "last": 5, "last_ms": 40_000, "rise": 35,
        "first_rise_ms": 10_000, "last_rise_ms": 30_000,
    }  # fmt: skip


def test_between_parts_a_counter_rises_too_and_never_from_one_gpu_to_the_next():
    early = part([("a", 0, 100), ("a", 10, 110), ("b", 0, 7)])
    late = part([("a", 20, 150), ("b", 20, 3), ("b", 30, 4)])
    rows = by_uuid(measured(Rises("v"), late, early))
    assert (rows["a"]["rise"], rows["a"]["first"], rows["a"]["last"]) == (50, 100, 150)
    assert (rows["b"]["rise"], rows["b"]["first_rise_ms"], rows["b"]["last_rise_ms"]) == (4, 20_000, 30_000)


# -- energy


def test_power_times_time_is_added_up_and_gaps_are_left_out():
    # 100 W for 20 s, 200 W for 10 s between; then a gap of over five steps; then 10 s at 60 W.
    rows = [("a", 0, 100), ("a", 10, 100), ("a", 20, 300), ("a", 80, 60), ("a", 90, 60)]
    assert measured(Areas("v"), part(rows)) == [{"uuid": "a", "area": 1000 + 2000 + 600}]
    # Fifty seconds are five steps of ten: no gap yet.
    assert measured(Areas("v"), part([*rows[:3], ("a", 70, 60), ("a", 80, 60)]))[0]["area"] == 3600 + 50 * 180


def test_over_five_minutes_nothing_is_assumed_however_rare_records_are():
    assert measured(Areas("v"), part([("a", 0, 100), ("a", 300, 100)])) == [{"uuid": "a", "area": 30_000}]
    assert measured(Areas("v"), part([("a", 0, 100), ("a", 300.1, 100)])) == [{"uuid": "a", "area": None}]
    assert measured(Areas("v"), part([("a", 0, 100)])) == [{"uuid": "a", "area": None}]


def energy(counted, integrated):
    counted = pa.table({
        "uuid": pa.array([r[0] for r in counted], pa.string()),
        "rise": pa.array([r[1] for r in counted], pa.float64()),
        "first_ms": pa.array([0] * len(counted), pa.int64()),
        "last_ms": pa.array([r[2] for r in counted], pa.int64()),
    })  # fmt: skip
    integrated = pa.table({
        "uuid": pa.array([r[0] for r in integrated], pa.string()),
        "area": pa.array([r[1] for r in integrated], pa.float64()),
    })  # fmt: skip
    return add_energy(counted, integrated)


def test_energy_is_the_counters_where_there_is_one_and_the_boards_once():
    both = energy([("a", 3.6e6, 10)], [("a", 1.0), ("b", 1.8e6)])
    assert (both.kwh, both.fields) == (1.5, ("energy_consumption_j", "power_draw"))
    assert energy([("a", 3.6e6, 0)], [("a", 7.2e6)]).kwh == 2.0  # one value of a counter says nothing
    mig = energy([], [("x:gi-1", 3.6e6), ("x:gi-2", 3.6e6), ("y", 3.6e6)])
    assert (mig.kwh, mig.fields) == (2.0, ("power_draw",))
    none = energy([], [("a", None)])
    assert (none.kwh, none.fields) == (None, ())


def test_the_power_of_a_board_counts_once():
    uuids = pa.array(["x:gi-1", "x:gi-13", "x", "y"])
    assert sum_of_boards(uuids, pa.array([300.0, 301.0, 300.5, 100.0])) == 401.0
    assert sum_of_boards(pa.array([], pa.string()), pa.array([], pa.float64())) is None


# -- codes


def test_a_change_is_a_change_to_another_code_and_nothing_between_counts():
    early = part([("a", 0, 0), ("a", 10, 79), ("a", 20, None), ("a", 30, 79), ("b", 0, 31)])
    late = part([("a", 40, 79), ("a", 50, 0), ("a", 60, 79), ("b", 40, 31)])
    rows = [(r["uuid"], r["ms"], r["value"]) for r in measured(Changes("v"), late, early)]
    assert sorted(rows) == [("a", 0, 0), ("a", 10_000, 79), ("a", 50_000, 0), ("a", 60_000, 79), ("b", 0, 31)]


# -- quantiles


def quantiles(values, counts, share):
    values = pa.array(values, pa.float64())
    groups = pa.array([0] * len(values), pa.int32())
    return quantile(groups, values, pa.array(counts, pa.int64()), share).to_pylist()[0]["value"]


def test_a_quantile_is_interpolated_between_the_two_nearest_values():
    assert quantiles([7], [1], 0.95) == 7
    assert quantiles([0, 100], [1, 1], 0.95) == pytest.approx(95)
    assert quantiles([1, 2, 3], [10, 10, 1], 0.95) == 2
    assert quantiles([1, 2], [1, 3], 0.5) == 2


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_quantiles_of_counted_values_are_those_of_the_values(pairs):
    pairs.sort()
    counted = [(*key, len(list(same))) for key, same in itertools.groupby(pairs)]
    groups, values, counts = zip(*counted, strict=True)
    found = quantile(
        pa.array(groups, pa.int32()), pa.array(values, pa.float64()), pa.array(counts, pa.int64()), 0.95
    )
    for row in found.to_pylist():
        of_group = sorted(v for g, v in pairs if g == row["group"])
        at = (len(of_group) - 1) * 0.95
        low, high = of_group[int(at)], of_group[min(int(at) + 1, len(of_group) - 1)]
        assert row["value"] == pytest.approx(low + (high - low) * (at - int(at)))


def test_too_many_values_are_taken_together_by_three_digits():
    ranks = pa.table({
        "uuid": pa.array(["a"] * 6).dictionary_encode(),
        "value": [350.1, 350.4, 350.6, 0.0, -12.34, 0.00012341],
        "count": [1, 2, 4, 8, 16, 32],
    })  # fmt: skip
    assert {(r["value"], r["count"]) for r in coarsen(ranks).to_pylist()} == {
        (350.4, 3), (350.6, 4), (0.0, 8), (-12.34, 16), (0.00012341, 32),
    }  # fmt: skip


# -- groups


def test_the_spread_of_a_group_is_of_its_records_and_those_without_a_label_are_one_too():
    rows = [("a", 0, 10.0), ("a", 10, 90.0), ("a", 20, 50.0), ("b", 0, 30.0), ("b", 10, None)]
    records = part(rows, pod=["x", "y", None, "x", "x"])
    records = records.append_column("gpu_utilization", records.column("v"))
    bins = Bins("pod", "gpu_utilization")
    found = spread(as_text(bins.merge(bins.take(records))))
    assert found == {
        "x": {"avg": 20.0, "p95": 29.0, "max": 30.0},
        "y": {"avg": 90.0, "p95": 90.0, "max": 90.0},
        None: {"avg": 50.0, "p95": 50.0, "max": 50.0},
    }
    members = count_members(as_text(Members("pod").merge(Members("pod").take(records))))
    assert sorted(members, key=str) == [
        {"name": "x", "gpus": 2, "records": 3},
        {"name": "y", "gpus": 1, "records": 1},
        {"name": None, "gpus": 1, "records": 1},
    ]


# -- pieces

MEASURES = [
    Spans(), Stats("v"), Values("v"), Rises("v"), Areas("v"), Changes("v"), Ranks("v"), Members("pod"),
    Bins("pod", "gpu_utilization"),
]  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 40),
            st.one_of(st.none(), st.integers(0, 5)),
            st.sampled_from(["x", "y", None]),
        ),
        min_size=1,
        max_size=40,
        unique_by=lambda r: r[:2],
    ),
    st.lists(st.integers(0, 41), max_size=4),
    st.randoms(),
)
@settings(max_examples=80, deadline=None)
def test_in_any_pieces_of_time_and_any_order_a_measure_is_the_same(rows, cuts, random):
    def make(some):
        table = part([r[:3] for r in some], pod=[r[3] for r in some])
        return table.append_column("gpu_utilization", table.column("v"))

    edges = sorted({-1, *cuts, 100})
    pieces = [[r for r in rows if a <= r[1] < b] for a, b in itertools.pairwise(edges)]
    pieces = [make(piece) for piece in pieces if piece]
    random.shuffle(pieces)
    for measure in MEASURES:
        assert sorted(measured(measure, *pieces), key=str) == sorted(
            measured(measure, make(rows)), key=str
        ), measure


def test_where_no_record_has_a_field_there_is_nothing_of_it():
    records = part([("a", 0, None)])
    for measure in (Stats("v"), Stats("w"), Values("w"), Rises("w"), Areas("w"), Changes("w"), Ranks("w")):
        assert measured(measure, records) == [], measure


# -- what may be read as it is


def spans(*rows):
    return pa.table({
        "uuid": pa.array([r[0] for r in rows], pa.string()).dictionary_encode(),
        "first_ms": [r[1] for r in rows],
        "last_ms": [r[2] for r in rows],
        "rows": [10] * len(rows),
    })  # fmt: skip


def test_gpus_are_entangled_where_parts_of_them_overlap_in_time():
    apart = spans(("a", 0, 10), ("b", 5, 20), ("a", 11, 30))
    assert find_entangled(apart).to_pylist() == []
    assert find_entangled(spans(("a", 0, 10), ("a", 10, 30), ("b", 0, 1))).to_pylist() == ["a"]
    assert find_entangled(spans(("a", 0, 100), ("a", 200, 300), ("a", 50, 60))).to_pylist() == ["a"]


def test_stretches_cover_all_of_the_time():
    windows = cut_stretches(spans(("a", 0, 99), ("b", 50, 149), ("c", 3, 3)), 10)
    assert [(w.start_ms, w.end_ms) for w in windows] == [(0, 50), (50, 100), (100, 150)]
    assert len(cut_stretches(spans(("a", 5, 5)), 1)) == 1


def test_rows_of_one_key_are_noticed():
    once = part([("a", 0, 1), ("a", 1, 1), ("b", 1, 1)])
    assert not has_keys_twice(once)
    assert not has_keys_twice(once.slice(0, 1))
    assert has_keys_twice(pa.concat_tables([once.slice(0, 1), once.slice(0, 1)]))


def test_small_segments_are_put_together_unless_a_large_one_lies_between():
    def segment(name, min_ms, rows):
        return SegmentInfo(
            id=name, day="20240115", level=0, min_ms=min_ms, max_ms=min_ms, min_uuid="a", max_uuid="b",
            min_upload="u", max_upload="u", rows=rows, size_bytes=1,
        )  # fmt: skip

    some = [segment("d", 4, 10), segment("a", 1, 10), segment("b", 2, 10), segment("c", 3, 11)]
    some += [segment("e", 5, 10), segment("f", 6, 1)]
    assert [[s.id for s in group] for group in group_small(some, 10, 20)] == [
        ["a", "b"],
        ["c"],
        ["d", "e"],
        ["f"],
    ]
