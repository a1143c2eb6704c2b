"""Pages, cursors and columns, without a store."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.query.columns import ColumnCame, choose_columns, iter_complete, stored_columns
from functions.query.cursor import Cursor, build_cursor, mark_of, parse_cursor
from functions.query.downsample import iter_downsampled
from functions.query.paging import Limits, Page, TimeCut, Watch
from functions.query.records import Place, Window, reverse
from shared.errors import InvalidInput, LimitExceeded
from shared.records import TIMESTAMP

# -- cursors

TIMES = st.integers(-(2**60), 2**60)


@given(st.text(min_size=1, max_size=80), TIMES, st.none() | TIMES, st.none() | TIMES, st.none() | TIMES)
def test_a_cursor_is_read_as_it_was_written(uuid, ms, start_ms, end_ms, reference_ms):
    cursor = Cursor(Place(uuid, ms), Window(start_ms=start_ms, end_ms=end_ms), reference_ms)
    text = build_cursor(cursor, mark_of("q"))
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()
    assert parse_cursor(text, mark_of("q")) == cursor
    with pytest.raises(InvalidInput, match="another question"):
        parse_cursor(text, mark_of("p"))


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.hex()))
def test_what_is_no_cursor_is_refused_and_no_crash(text):
    with pytest.raises(InvalidInput):
        parse_cursor(text, mark_of("q"))


# -- cutting


def chunks(rows, size, *, descending):
    rows = sorted(rows, reverse=descending)
    for begin in range(0, len(rows), size):
        some = rows[begin : begin + size]
        yield pa.table({
            "uuid": pa.array([u for u, _ in some]).dictionary_encode(),
            "timestamp": pa.array([ms for _, ms in some], TIMESTAMP),
            "power_draw": pa.array([float(ms) for _, ms in some]),
        })  # fmt: skip


def keys(tables):
    return [
        (u, int(t.timestamp() * 1000), v)
        for table in tables
        for u, t, v in zip(*(table.column(n).to_pylist() for n in table.column_names), strict=True)
    ]


def ticking():
    """A clock that goes on by a second each time that it is asked."""
    return itertools.count().__next__


def after(rows, place, *, descending):
    """What comes behind a place."""
    if place is None:
        return rows
    key = (place.uuid, place.ms)
    return [r for r in rows if (r < key if descending else r > key)]


EVEN = {("a", ms) for ms in range(0, 60, 3)}
ROWS = st.sets(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 60)), max_size=60)


@given(
    rows=ROWS,
    size=st.integers(1, 7),
    group_ms=st.sampled_from([None, 5, 13]),
    limit=st.integers(1, 9),
    seconds=st.integers(0, 12),
    descending=st.booleans(),
)
@example(rows=EVEN, size=7, group_ms=13, limit=9, seconds=0, descending=True)
@example(rows=EVEN, size=7, group_ms=13, limit=9, seconds=0, descending=False)
def test_pages_are_the_whole_wherever_they_are_cut(rows, size, group_ms, limit, seconds, descending):
    def shape(parts):
        if group_ms is None:
            return parts
        return iter_downsampled(parts, group_ms, "avg", descending=descending)

    whole = keys(shape(chunks(rows, 1000, descending=descending)))
    found, place = [], None
    for _ in range(500):
        left = after(rows, place, descending=descending)
        watch = Watch(seconds, ticking())
        cut = TimeCut(
            chunks(left, size, descending=descending), watch, group_ms=group_ms or 1, descending=descending
        )
        page = Page(shape(iter(cut)), limit, cut)
        found += keys(watch.timed(page))
        assert page.rows <= limit
        place = page.next
        if place is None:
            break
    assert place is None
    assert found == whole


def test_time_spent_between_the_chunks_does_not_count():
    now = [0.0]
    watch = Watch(1.0, lambda: now[0])

    def work():
        for _ in range(3):
            now[0] += 0.3
            yield 0

    for _ in watch.timed(work()):
        assert not watch.is_over()
        now[0] += 100  # the client reads
    for _ in watch.timed(work()):
        now[0] += 100
    assert watch.is_over()


def test_a_window_over_the_limit_is_refused():
    limits = Limits(1000, 10, 1.0)
    limits.check_range(0, 1000)
    limits.check_range(None, 5000)
    Limits(None, 10, 1.0).check_range(0, 10**15)
    with pytest.raises(LimitExceeded, match="MAX_QUERY_RANGE"):
        limits.check_range(0, 1001)


def test_a_table_turned_around_is_the_same_backwards():
    table = next(chunks({("a", 1), ("a", 2), ("b", 1)}, 10, descending=False))
    assert keys([reverse(table)]) == keys([table])[::-1]


# -- columns


def nothing():
    raise AssertionError("the store need not be asked for what is in the catalogue")


def test_names_of_the_catalogue_need_no_store():
    assert choose_columns(("power_draw", "POD", "timestamp", "power_draw", "uuid"), nothing) == (
        "gpu_id", "uuid", "hostname", "power_draw", "pod",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("DCGM_FI_DEV_GPU_UTIL", "gpu_utilization"),
        ("utilization.gpu", "gpu_utilization"),
        ("model", "modelname"),
        ("exported_pod", "pod"),
        ("my_metric", "my_metric"),
        ("power_usage", "power_usage"),
    ],
)
def test_a_name_of_ones_own_comes_before_another_name(asked, expected):
    assert choose_columns((asked,), lambda: {"my_metric", "power_usage"})[-1] == expected


@pytest.mark.parametrize("asked", ["x", "gpu_utilisation", "received_at", "upload_id", "first_ms", "ü"])
def test_an_unknown_name_is_refused_with_the_nearest(asked):
    with pytest.raises(InvalidInput) as caught:
        choose_columns((asked,), set)
    assert caught.value.details["nearest"] in caught.value.message


def test_stored_columns_are_those_with_a_value_in_the_order_of_records():
    summary = pa.table({
        "uuid": ["a"], "@first_ms": [1], "@last_ms": [2], "@status": ["stale"], "pod": ["p"], "cluster": ["c"],
        "zeta": [1.0], "alpha": [2.0], "nothing": pa.array([None], pa.float64()), "temperature": [1.0],
    })  # fmt: skip
    columns = stored_columns(summary)
    assert columns[:4] == ("gpu_id", "uuid", "hostname", "gpu_utilization")
    assert columns[11:] == ("alpha", "zeta", "cluster", "pod")
    assert stored_columns(None) == columns[:11]


def test_a_value_in_a_column_that_is_not_written_is_never_dropped():
    parts = [pa.table({"uuid": ["a"], "number": [0], "x": [None], "y": [1.0]})]
    assert list(iter_complete(parts, {"y"})) == parts
    with pytest.raises(ColumnCame):
        list(iter_complete(parts, {"x"}))
