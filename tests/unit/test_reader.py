"""The reader: every row accounted for, by line, and nothing stored that was not in the file."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import NotCsv
from shared.ingest.blocks import iter_blocks
from shared.ingest.dialect import parse_header, read_header
from shared.ingest.reader import Reader
from shared.ingest.report import Report
from shared.records import concat
from tests.csvs import WIDE_HEADER, long, long_row, wide, wide_row


def read(data, *, block_bytes=2 * 1024 * 1024):
    """Read a file the way upload does; returns its rows as dictionaries, and the report."""
    stream = io.BytesIO(data)
    text, rest, line = read_header(stream.read)
    layout = parse_header(text)
    report, tables, reader = Report(), [], None
    for block in iter_blocks(stream.read, rest, line + 1, block_bytes):
        if reader is None:
            reader = Reader(layout, "default")
            reader.prepare(block)
        table, part = reader.parse(block)
        report.add(part)
        if table is not None:
            tables.append(table)
    for warning in layout.warnings:
        report.warn(warning)
    return (concat(tables).to_pylist() if tables else []), report


def problems(report):
    return [(b.line, b.column, b.reason.split(":")[0]) for b in report.bad]


def test_a_clean_wide_file():
    rows, report = read(wide([wide_row(), wide_row("2024-01-15T10:30:01.250Z")]))
    assert [r["timestamp"].isoformat() for r in rows] == [
        "2024-01-15T10:30:00+00:00",
        "2024-01-15T10:30:01.250000+00:00",
    ]
    assert rows[0]["gpu_utilization"] == 85.5
    assert rows[0]["uuid"] == "GPU-gpu-node-01-0"
    assert report.as_dict() == {
        "rows": 2,
        "accepted": 2,
        "rejected": 0,
        "values_nulled": 0,
        "gpus": 1,
        "hosts": 1,
        "first_timestamp": "2024-01-15T10:30:00Z",
        "last_timestamp": "2024-01-15T10:30:01.250Z",
        "warnings": [],
        "errors": [],
        "errors_total": 0,
    }


def test_heads_in_any_order_and_case_with_aliases():
    data = b"Power_Draw , GPU_UUID,Host,TIME,GPU,foo bar\n100.5,U,h,2024-01-15T10:30:00Z,3,7\n"
    rows, report = read(data)
    assert rows[0]["power_draw"] == 100.5
    assert (rows[0]["uuid"], rows[0]["hostname"], rows[0]["gpu_id"]) == ("U", "h", "3")
    assert rows[0]["foo_bar"] == 7.0
    assert report.accepted == 1


@pytest.mark.parametrize(
    "word",
    [
        "",
        "-",
        "N/A",
        "[N/A]",
        "[Not Supported]",
        "ERR!",
        "nan",
        "<<<NULL>>>",
        "2147483632",
        "9223372036854775794",
    ],
)
def test_what_was_not_reported_is_null_and_no_error(word):
    rows, report = read(wide([wide_row(power=word), wide_row(power="1")]))
    assert rows[0]["power_draw"] is None
    assert report.nulled == 0


@pytest.mark.parametrize(
    ("field", "value"), [("util", "808334905"), ("util", "-1"), ("temp", "1000"), ("power", "inf")]
)
def test_garbage_becomes_null_and_is_named(field, value):
    rows, report = read(wide([wide_row(), wide_row(**{field: value})]))
    assert report.accepted == 2
    assert report.nulled == 1
    assert report.bad[0].line == 3
    assert report.bad[0].value == value
    assert sum(v is None for v in rows[1].values()) == 1


def test_a_bad_number_is_null_and_its_row_stays():
    rows, report = read(wide([wide_row(util="abc"), wide_row(util=" 12.5 ")]))
    assert [r["gpu_utilization"] for r in rows] == [None, 12.5]
    assert problems(report) == [(2, "gpu_utilization", "not a number")]
    assert (report.accepted, report.rejected, report.nulled) == (2, 0, 1)


def test_bad_rows_are_rejected_by_line_and_good_ones_beside_them_go_through():
    data = wide([
        wide_row(),
        wide_row("yesterday"),
        "\n",
        wide_row("2024-02-31T00:00:00Z"),
        "too,few\n",
        wide_row(uuid="", host=""),
        wide_row("1850-01-01T00:00:00Z"),
        wide_row("2024-01-15T10:30:09Z"),
    ])  # fmt: skip
    rows, report = read(data)
    assert [(line, column) for line, column, _ in problems(report)] == [
        (3, "timestamp"),
        (5, "timestamp"),
        (6, None),
        (7, "uuid"),
        (8, "timestamp"),
    ]
    assert (report.rows, report.accepted, report.rejected) == (7, 2, 5)
    assert len(rows) == 2


def test_an_open_quote_takes_no_other_row_with_it():
    broken = wide_row("2024-01-15T10:30:01Z").replace("nvidia0,", '"nvidia0,')
    rows, report = read(
        wide([wide_row(), broken, wide_row("2024-01-15T10:30:02Z"), wide_row("2024-01-15T10:30:03Z")])
    )
    assert problems(report) == [(3, None, "a quote is opened and never closed")]
    assert len(rows) == 3


@pytest.mark.parametrize(
    "rows",
    [
        ['…00Z,U,1,"pod-a', "…01Z,U,2,pod-b", '…02Z,U,3,"pod-c"'],
        ['…00Z,U,"1,pod', '…01Z,U,"2,pod', "…02Z,U,3,pod"],
        ['…00Z,U,1,"a', *[f"…{i:02d}Z,U,2,b" for i in range(1, 10)], '…10Z,U,3,"c"'],
    ],
)
def test_a_stray_quote_swallows_no_good_row(rows):
    data = "timestamp,uuid,temperature,pod\n" + "\n".join(rows).replace("…", "2024-01-15T10:30:") + "\n"
    found, report = read(data.encode())
    assert report.rows == len(rows)
    assert (report.bad[0].line, report.bad[0].reason) == (2, "a quote is opened and never closed")
    assert all("\n" not in (r["pod"] or "") for r in found)


def test_a_bare_carriage_return_is_named():
    _, report = read(wide([wide_row(), wide_row().replace("nvidia0", "nvi\rdia0"), wide_row()]))
    assert problems(report) == [(3, None, "a bare carriage return stands in the line")]


def test_too_many_different_metrics_are_named_and_take_bounded_memory():
    header = "timestamp,uuid,metric_name,value\n"
    rows = "".join(f"2024-01-15T10:30:00Z,U{i},m{i},1\n" for i in range(3000))
    found, report = read((header + rows).encode())
    assert report.accepted == 3000
    assert report.nulled == 3000 - 512
    assert report.bad[0].reason == "the file has more than 512 different metrics"
    assert sum(v == 1.0 for row in found for v in row.values()) == 512


def test_a_newline_inside_a_quoted_cell_is_part_of_it():
    odd = wide_row("2024-01-15T10:30:01Z").replace("nvidia0", '"nvi\ndia0"')
    rows, report = read(wide([wide_row(), odd, "bad\n", wide_row("2024-01-15T10:30:02Z")]))
    assert rows[1]["device"] == "nvi\ndia0"
    assert problems(report) == [(5, None, "14 cells expected, as in the header; 1 found")]


def test_lines_that_are_not_utf8():
    rows, report = read(wide([wide_row()]) + b"\xff\xfe,\n" + wide_row().encode())
    assert problems(report) == [(3, None, "this line is not UTF-8")]
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("time", "iso"),
    [
        ("2024-01-15T10:30:00+02:00", "2024-01-15T08:30:00+00:00"),
        ("2024-01-15 10:30:00", "2024-01-15T10:30:00+00:00"),
        ("2024-01-15T10:30:00.123456Z", "2024-01-15T10:30:00.123000+00:00"),
        ("2024-01-15T10:30:00.123456789Z", "2024-01-15T10:30:00.123000+00:00"),
        (" 2024-01-15T10:30:00Z ", "2024-01-15T10:30:00+00:00"),
        ("2024-01-15", "2024-01-15T00:00:00+00:00"),
    ],
)
def test_times(time, iso):
    for data in (wide([wide_row(time)]), wide([wide_row(), wide_row(time)]), wide([wide_row(time), "x\n"])):
        rows, report = read(data)
        assert rows[-1]["timestamp"].isoformat() == iso
        assert ("UTC was assumed" in str(report.warnings)) == (time in ("2024-01-15 10:30:00", "2024-01-15"))


def test_date_and_time_apart():
    rows, _ = read(b"Date,Time,uuid,gpu_utilization\n2024-01-15,10:30:00,U,5\n")
    assert rows[0]["timestamp"].isoformat() == "2024-01-15T10:30:00+00:00"


def test_a_missing_uuid_is_made_of_host_and_index_and_stays_the_same():
    data = (
        b"timestamp,hostname,gpu_id,gpu_utilization\n2024-01-15T10:30:00Z,a,0,5\n2024-01-15T10:30:00Z,b,0,5\n"
    )
    (first, second), report = read(data)
    assert first["uuid"].startswith("synthetic-")
    assert first["uuid"] != second["uuid"]
    assert read(data)[0][0]["uuid"] == first["uuid"]
    assert "stable one was made" in next(iter(report.warnings))


def test_text_columns_are_named_as_not_used():
    rows, report = read(b"timestamp,uuid,power.draw,comment\n2024-01-15T10:30:00Z,U,5,hello\n")
    assert "comment" not in rows[0]
    assert list(report.warnings) == ["column 'comment' is not used: it holds text"]


def test_the_long_form_becomes_records_by_exact_time():
    data = long([
        long_row("DCGM_FI_DEV_GPU_UTIL", "100"),
        long_row("DCGM_FI_DEV_GPU_TEMP", "63", time="2025-07-18T20:42:35Z"),
        long_row("DCGM_FI_DEV_POWER_USAGE", "117.77"),
        long_row("DCGM_FI_DEV_GPU_UTIL", "7", gpu=1, pod="train-0"),
        long_row("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "5000", gpu=1),
        long_row("my_own_metric", "1.5", gpu=1),
    ])  # fmt: skip
    rows, report = read(data)
    assert report.rows == report.accepted == 6
    assert len(rows) == 3
    by = {(r["gpu_id"], r["timestamp"].second): r for r in rows}
    assert (by["0", 34]["gpu_utilization"], by["0", 34]["power_draw"]) == (100.0, 117.77)
    assert by["0", 35]["temperature"] == 63.0
    assert by["0", 35]["gpu_utilization"] is None
    one = by["1", 34]
    assert (one["energy_consumption_j"], one["my_own_metric"], one["pod"]) == (5.0, 1.5, "train-0")
    assert one["driver_version"] == "535.129.03"


def test_long_form_garbage_and_mig():
    data = long([
        long_row("DCGM_FI_DEV_GPU_UTIL", "4294967295"),
        long_row("DCGM_FI_DEV_GPU_TEMP", "warm"),
        long_row("", "1"),
        long_row("DCGM_FI_PROF_SM_ACTIVE", "0.5", labels=',GPU_I_ID=""7""'),
    ])  # fmt: skip
    rows, report = read(data)
    assert [(line, reason) for line, _, reason in problems(report)] == [
        (2, "out of range"),
        (3, "not a number"),
        (4, "no metric name"),
    ]
    assert (report.accepted, report.rejected, report.nulled) == (3, 1, 2)
    assert {r["uuid"] for r in rows} == {"GPU-dgx-1-0", "GPU-dgx-1-0:gi-7"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"hello world", "no timestamp column"),
        (b"a,b,c\n1,2,3\n", "unknown header"),
        (b"timestamp,power\n", "which GPU"),
        (b"timestamp,uuid\n", "no column that could be a metric"),
        (b"\x1f\x8b\x08rest", "gzip"),
        ("timestamp,uuid,power.draw\n".encode("utf-16"), "UTF-16"),
        (b"\x00\x01\x02\n", "binary"),
        (b"\xff,a\n", "not UTF-8"),
        (b'"open,\n', "header"),
        (b"timestamp,uuid,power.draw\r2024-01-15T10:30:00Z,U,1\r", "carriage return"),
    ],
)
def test_what_is_not_telemetry_is_refused_with_what_would_be(data, says):
    with pytest.raises(NotCsv, match=says):
        read(data)


def test_bom_crlf_and_no_last_newline():
    data = b"\xef\xbb\xbf" + wide([wide_row(), wide_row()]).replace(b"\n", b"\r\n").rstrip(b"\r\n")
    rows, report = read(data)
    assert (len(rows), report.rejected, report.warnings) == (2, 0, {})


CELL = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=80), st.lists(CELL, max_size=16).map(lambda c: ",".join(c).encode())),
        max_size=12,
    ),
    st.integers(200, 3000),
)
def test_good_rows_survive_any_neighbours(garbage, block_bytes):
    """Whatever stands between good rows: no exception but ours, and the good ones are all there."""
    good = [wide_row(f"2024-01-15T10:30:{i:02d}Z").encode() for i in range(len(garbage) + 1)]
    lines = [good[0]]
    for i, bad in enumerate(garbage):
        # A quote may open a cell that legitimately swallows what follows: that is another test.
        lines += [bad.replace(b'"', b"").replace(b"\n", b"") + b"\n", good[i + 1]]
    rows, report = read(WIDE_HEADER.encode() + b"".join(lines), block_bytes=block_bytes)
    found = [r["timestamp"].second for r in rows if r["uuid"] == "GPU-gpu-node-01-0"]
    assert found == list(range(len(good)))
    assert report.accepted + report.rejected == report.rows
    assert report.accepted == len(rows)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_at_all_raise_nothing_but_ours(data):
    with contextlib.suppress(NotCsv):
        read(data)
    _, report = read(WIDE_HEADER.encode() + data)
    assert report.accepted + report.rejected == report.rows
