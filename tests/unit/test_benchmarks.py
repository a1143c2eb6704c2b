"""The benchmarks' own arithmetic: a generator that makes what it says, and figures that are what they are called."""

from __future__ import annotations

import csv
import itertools
import os
import subprocess
import sys

import pytest

from benchmarks import report
from benchmarks.database import parse_metric
from benchmarks.figures import Aim, Section, at_most, percentile
from benchmarks.generate import COLUMNS, Fleet, fleet_of
from benchmarks.load import answered_stamp, stamp
from benchmarks.processes import BenchmarkFailure, descend, parse_stat, read_cpu_s, wait_until


def text_of(fleet, *piece):
    return b"".join(fleet.iter_csv(*piece)).decode()


def test_a_file_has_every_gpu_at_every_instant_in_order_of_time():
    fleet = Fleet(20, 30)
    rows = list(csv.DictReader(text_of(fleet).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [(r["timestamp"], r["uuid"]) for r in rows] == [
        (f"2024-01-15T00:{second // 60:02d}:{second % 60:02d}Z", uuid)
        for second in range(0, 300, 10)
        for uuid in fleet.uuids
    ]
    assert len(set(fleet.uuids)) == 20


def test_pieces_make_the_same_file_as_the_whole():
    fleet = Fleet(16, 25)
    whole = text_of(fleet).splitlines()
    pieces = [line for first in range(0, 25, 7) for line in text_of(fleet, first, 7).splitlines()[1:]]
    assert pieces == whole[1:]


def test_the_records_of_one_gpu_are_those_of_the_file():
    fleet = Fleet(16, 25)
    rows = [r for r in csv.DictReader(text_of(fleet).splitlines()) if r["uuid"] == fleet.uuids[5]]
    alone = fleet.table(gpus=range(5, 6)).to_pylist()
    assert [{k: str(v) for k, v in record.items()} for record in alone] == rows


def test_values_look_like_telemetry():
    fleet = Fleet(200, 50)
    by_gpu = {}
    for row in csv.DictReader(text_of(fleet).splitlines()):
        by_gpu.setdefault(row["uuid"], []).append(row)
        assert 0 <= float(row["gpu_utilization"]) <= 100
        assert int(row["memory_used_mb"]) + int(row["memory_free_mb"]) == 81_079
        assert row["power_draw"].partition(".")[2].isdigit()
        assert len(row["temperature"].partition(".")[2]) == 1
    busy = by_gpu[fleet.uuids[0]]
    steps = [abs(float(a["temperature"]) - float(b["temperature"])) for a, b in itertools.pairwise(busy)]
    assert 0 < max(steps) < 5
    assert any(float(rows[0]["gpu_utilization"]) == 0 for rows in by_gpu.values())


@pytest.mark.parametrize(
    ("rows", "gpus", "instants"), [(1_000_000, 1000, 1000), (8000, 8, 1000), (1000, 8, 125)]
)
def test_a_fleet_has_about_so_many_rows(rows, gpus, instants):
    fleet = fleet_of(rows)
    assert (fleet.gpus, fleet.instants) == (gpus, instants)


def test_percentiles_are_values_that_occurred():
    values = [float(n) for n in range(1, 201)]
    assert [percentile(values, p) for p in (50, 99, 100)] == [100, 198, 200]
    assert percentile([3.0], 99) == 3


def test_a_time_is_sent_with_milliseconds_and_answered_without_where_there_are_none():
    assert stamp(1_700_000_000_000) == b"2023-11-14T22:13:20.000Z"
    assert answered_stamp(1_700_000_000_000) == "2023-11-14T22:13:20Z"
    assert answered_stamp(1_700_000_000_120) == "2023-11-14T22:13:20.120Z"


def test_a_process_may_be_called_anything():
    line = "77 (a) R (b 1) S 5 77 77 0 -1 4194560 1 2 3 4 150 50 20 30 20 0 1 0 9 9 9"
    stat = parse_stat(line)
    assert (stat.pid, stat.parent, stat.cpu_s, stat.waited_for_s) == (77, 5, 2.0, 0.5)


def test_a_process_belongs_to_its_nearest_named_ancestor():
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 13: 10, 20: 1}
    stats = {pid: parse_stat(f"{pid} (x) S {up} " + "0 " * 40) for pid, up in parents.items()}
    assert descend(stats, 10, {11: "upload"}, "rest") == {10: "rest", 11: "upload", 12: "upload", 13: "rest"}


def test_cpu_of_children_that_have_ended_counts():
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        used = read_cpu_s(process.pid, {}, "all")
        process.communicate(b"\n")
    assert used["all"] >= 0.29
    assert process.pid not in descend({}, process.pid, {}, "all")


def test_a_gauge_is_found_under_either_name():
    metrics = "# TYPE x gauge\netcd_debugging_mvcc_db_total_size_in_bytes 2.4576e+04\nother 1\n"
    assert parse_metric(metrics, "mvcc_db_total_size_in_bytes") == 24576
    with pytest.raises(BenchmarkFailure, match="in_use"):
        parse_metric(metrics, "mvcc_db_total_size_in_use_in_bytes")


def test_waiting_ends_with_what_was_waited_for():
    with pytest.raises(BenchmarkFailure, match="the moon is full"):
        wait_until(lambda: False, 0.0, "the moon is full")
    assert wait_until(os.getpid, 0.0, "a process has a number") == os.getpid()


def section():
    out = Section("A title", "- what it includes\n")
    out.add("speed", "5", "2", "2.50x", Aim("at least 2.5x", met=True))
    out.add("  of that | half", "2", "1", "2.00x", at_most(2.0, 1.0))
    return out


def test_only_what_is_between_the_markers_is_rewritten():
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.replace_generated(text, "new")
    assert once.startswith("before\n")
    assert once.endswith(f"{report.END}\nafter\n")
    assert "old" not in once
    assert report.replace_generated(once, "new") == once
    with pytest.raises(BenchmarkFailure):
        report.replace_generated("no markers", "new")


def test_a_document_says_figures_aims_and_what_was_lost():
    lossy = section()
    lossy.lost.append("3 rows")
    text = report.to_markdown({"CPU": "one"}, "today", [lossy])
    assert "| speed | 5 | 2 | 2.50x | at least 2.5x: reached |" in text
    assert "| &nbsp;&nbsp;of that / half | 2 | 1 | 2.00x | at most 1x: missed |" in text
    assert "- what it includes\n- **Lost: 3 rows**" in text


def test_columns_without_figures_are_left_out():
    alone = Section("Alone", "")
    alone.add("speed", "5")
    assert "|  | pipeline |\n|---|---:|\n| speed | 5 |" in report.to_markdown({}, "today", [alone])
