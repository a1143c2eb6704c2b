"""What fleet questions decide: windows, idle, throttled, errors, missing; by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from functions.query.fleet.conditions import count_boards, find_busy_but_empty, find_idle
from functions.query.fleet.errors import MEASURES as ERROR_MEASURES
from functions.query.fleet.errors import find_errors
from functions.query.fleet.measures import Values
from functions.query.fleet.missing import compare_hosts, most_at_once
from functions.query.fleet.parts import as_text, put_below
from functions.query.fleet.reasons import decode_reasons, find_throttled, throttles
from functions.query.fleet.series import Rises
from functions.query.fleet.top import find_field
from functions.query.fleet.window import HOUR_MS, choose_window, format_ms
from functions.query.fleet.xid import explain_xid, grade_xid, worst
from shared.config import read_settings
from shared.errors import BadConfig, InvalidInput
from shared.expected import ExpectedGpus, parse_expected_gpus
from shared.records import TIMESTAMP

NOW = 1_705_320_000_000  # 2024-01-15T12:00:00Z
NOTHING_SET = ExpectedGpus(None, {})


def records(rows, *names):
    """Records of (uuid, second, value of each name)."""
    return pa.table({
        "uuid": pa.array([r[0] for r in rows], pa.string()).dictionary_encode(),
        "timestamp": pa.array([r[1] * 1000 for r in rows], TIMESTAMP),
        **{name: pa.array([r[2 + i] for r in rows], pa.float64()) for i, name in enumerate(names)},
    })  # fmt: skip


def measured(measure, part):
    return as_text(measure.merge(put_below([measure.take(part)])))


# -- the window


def test_without_times_the_last_hour_is_meant_in_steps_of_five_seconds():
    for now in (NOW - 4999, NOW):
        window = choose_window(None, None, now, NOW - 1000)
        assert (window.start_ms, window.end_ms, window.basis) == (NOW - HOUR_MS, NOW, "clock")
    assert choose_window(None, None, NOW, None).basis == "clock"


def test_where_nothing_is_newer_than_an_hour_the_newest_hour_is_meant():
    window = choose_window(None, None, NOW, 1_000_000_123)
    assert (window.start_ms, window.end_ms) == (1_000_001_000 - HOUR_MS, 1_000_001_000)
    assert (window.basis, window.until_ms()) == ("latest", 1_000_001_000)
    assert choose_window(None, None, NOW, NOW - HOUR_MS).basis == "clock"


def test_what_is_given_is_meant_and_what_is_left_out_is_an_hour_or_now():
    assert choose_window(1, 2, NOW, 5).render() == {
        "start_time": "1970-01-01T00:00:00.001Z",
        "end_time": "1970-01-01T00:00:00.002Z",
        "basis": "given",
    }
    only_end = choose_window(None, NOW - 5, NOW, 5)
    assert (only_end.start_ms, only_end.end_ms) == (NOW - 5 - HOUR_MS, NOW - 5)
    only_start = choose_window(NOW - 7, None, NOW, 5)
    assert (only_start.start_ms, only_start.end_ms) == (NOW - 7, NOW)
    later = choose_window(NOW + 7, NOW + 9, NOW, 5)
    assert later.until_ms() == NOW


def test_no_time_is_too_far_away_to_be_written():
    window = choose_window(-(10**18), 10**18, NOW, None)
    assert (window.render()["start_time"], window.render()["end_time"][:4]) == (
        "1970-01-01T00:00:00Z",
        "2200",
    )
    assert format_ms(1_705_320_000_050) == "2024-01-15T12:00:00.050Z"


# -- idle, busy but empty


def stats(**of_gpu):
    """Stats of values, by GPU."""
    some = {uuid: values for uuid, values in of_gpu.items() if values}
    return pa.table({
        "uuid": pa.array(list(some), pa.string()),
        "count": pa.array([len(v) for v in some.values()], pa.int64()),
        "sum": pa.array([float(sum(v)) for v in some.values()], pa.float64()),
        "max": pa.array([float(max(v)) for v in some.values()], pa.float64()),
        "last": pa.array([float(v[-1]) for v in some.values()], pa.float64()),
        "first_ms": pa.array([0] * len(some), pa.int64()),
        "last_ms": pa.array([9] * len(some), pa.int64()),
    })  # fmt: skip


def test_idle_is_a_gpu_that_never_was_over_the_threshold():
    found = find_idle(
        stats(a=[0, 5], b=[0, 6], c=[1, 1], d=[0]),
        stats(a=[9000, 2000], b=[1], c=[1024]),
        stats(c=[0.5]),
        5,
        1024,
    )
    rows = [
        (r["uuid"], r["memory_used_mb"], r["holding_memory"], r["sm_active_avg"]) for r in found.to_pylist()
    ]
    assert rows == [("a", 2000, True, None), ("c", 1024, False, 0.5), ("d", None, None, None)]


def test_busy_but_empty_is_a_high_mean_over_a_low_mean():
    busy = stats(a=[100, 82], b=[100, 80], c=[95], d=[95])
    found = find_busy_but_empty(busy, stats(a=[0.1, 0.2], b=[0.1], c=[0.2]), 90, 0.2)
    assert [(r["uuid"], r["gpu_utilization_avg"]) for r in found.to_pylist()] == [("a", 91)]


def test_the_instances_of_a_board_are_one_board():
    assert count_boards(pa.array(["x:gi-1", "x:gi-2", "x", "y:gi-1"])) == 2


# -- reasons


def test_bits_are_named_as_nvidia_does():
    assert decode_reasons(0) == {}
    assert list(decode_reasons(511).values()) == [
        "gpu_idle", "applications_clocks_setting", "sw_power_cap", "hw_slowdown", "sync_boost",
        "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "display_clock_setting",
    ]  # fmt: skip
    assert decode_reasons(512 + 4) == {4: "sw_power_cap", 512: "bit_9"}
    assert [throttles(bits) for bits in (0, 1, 2, 3, 4, 5, 8)] == [False] * 4 + [True] * 3


def test_throttled_is_what_was_held_back_by_more_than_being_idle():
    rows = [("a", 0, 0), ("a", 10, 4), ("a", 20, 5), ("a", 30, 1), ("b", 0, 3), ("c", 0, None), ("d", 0, 64)]
    part = records([(*r, 0, 0) for r in rows], "throttle_reasons", "power_violation_ns", "x")
    none = Rises("thermal_violation_ns")
    found = find_throttled(
        measured(Values("throttle_reasons"), part),
        measured(Rises("power_violation_ns"), part),
        measured(none, part),
    )
    assert list(found) == ["d", "a"]
    assert found["a"] == {
        "share": 0.5, "throttled_now": False, "first_ms": 10_000, "last_ms": 20_000,
        "power_violation_s": 0, "thermal_violation_s": None,
        "reasons": [
            {"reason": "gpu_idle", "bit": 1, "throttles": False, "share": 0.5,
             "first_seen": "1970-01-01T00:00:20Z", "last_seen": "1970-01-01T00:00:30Z"},
            {"reason": "sw_power_cap", "bit": 4, "throttles": True, "share": 0.5,
             "first_seen": "1970-01-01T00:00:10Z", "last_seen": "1970-01-01T00:00:20Z"},
        ],
    }  # fmt: skip
    assert found["d"]["throttled_now"] is True


def test_throttling_between_records_shows_in_the_counters():
    part = records([("a", 0, 5e9), ("a", 10, 7.5e9), ("b", 0, 3), ("b", 10, 3)], "thermal_violation_ns")
    found = find_throttled(
        measured(Values("throttle_reasons"), part),
        measured(Rises("power_violation_ns"), part),
        measured(Rises("thermal_violation_ns"), part),
    )
    assert found == {
        "a": {
            "share": None, "throttled_now": None, "first_ms": 10_000, "last_ms": 10_000, "reasons": None,
            "power_violation_s": None, "thermal_violation_s": 2.5,
        }
    }  # fmt: skip


# -- errors


def errors(rows, *names):
    part = records(rows, *names)
    return find_errors({measure: measured(measure, part) for measure in ERROR_MEASURES})


def test_an_xid_is_an_event_when_it_comes_and_not_while_it_stays():
    rows = [("a", 0, 0), ("a", 10, 79), ("a", 20, 79), ("a", 30, 0), ("a", 40, 79), ("b", 0, 0), ("b", 10, 0)]
    found = errors(rows, "xid_error")
    assert list(found) == ["a"]
    assert found["a"]["severity"] == "critical"
    assert found["a"]["xids"] == [
        {
            "code": 79, "meaning": explain_xid(79), "severity": "critical", "events": 2, "since_before": False,
            "first_seen": "1970-01-01T00:00:10Z", "last_seen": "1970-01-01T00:00:40Z",
        }
    ]  # fmt: skip
    assert (found["a"]["first_seen"], found["a"]["last_seen"]) == (
        "1970-01-01T00:00:10Z",
        "1970-01-01T00:00:40Z",
    )
    assert found["a"]["ecc_single_bit"] is found["a"]["row_remap_pending"] is None


def test_an_xid_that_stood_there_first_came_before():
    [xid, other] = errors([("a", 0, 31), ("a", 10, 31), ("a", 20, 94)], "xid_error")["a"]["xids"]
    assert (xid["code"], xid["since_before"], xid["events"]) == (31, True, 0)
    assert xid["last_seen"] == "1970-01-01T00:00:10Z"
    assert (other["code"], other["since_before"], other["events"], other["severity"]) == (
        94,
        False,
        1,
        "warning",
    )


def test_a_number_that_is_no_code_is_no_error():
    rows = [("a", 0, 0.5), ("a", 10, 1e300), ("b", 0, 1e300), ("b", 10, 13.0), ("b", 20, 0.1)]
    found = errors(rows, "xid_error")
    assert [(uuid, [x["code"] for x in row["xids"]]) for uuid, row in found.items()] == [("b", [13])]


def test_what_can_be_no_xid_is_none():
    assert errors([("a", 0, 0), ("a", 10, 2.0**64), ("a", 20, 0.5), ("a", 30, 1e300)], "xid_error") == {}
    [xid] = errors([("a", 0, 0), ("a", 10, 79), ("a", 20, 2.0**64)], "xid_error")["a"]["xids"]
    assert (xid["code"], xid["last_seen"]) == (79, "1970-01-01T00:00:10Z")


def test_severities_are_graded_and_the_worst_counts():
    for severity, codes in {
        "critical": (48, 62, 64, 74, 79, 95, 119, 120),
        "warning": (94,),
        "application": (13, 31, 43),
        "unknown": (1, 63, 999),
    }.items():
        assert {grade_xid(code) for code in codes} == {severity}
    assert worst(["application", "warning", "unknown"]) == "warning"
    assert explain_xid(4711) not in {explain_xid(code) for code in (13, 31, 48, 79)}
    assert errors([("a", 0, 31), ("a", 1, 79)], "xid_error")["a"]["severity"] == "critical"


def test_ecc_errors_are_what_counters_rose_by_and_what_is_corrected_is_told_apart():
    names = ("ecc_sbe_volatile", "ecc_dbe_volatile", "ecc_dbe_aggregate")
    found = errors(
        [("a", 0, 5, 0, 7), ("a", 10, 9, 0, 7), ("b", 0, 0, 0, 1), ("b", 10, 0, 2, 3), ("c", 0, 4, 0, 9)],
        *names,
    )
    assert {uuid: row["severity"] for uuid, row in found.items()} == {"b": "critical", "a": "corrected"}
    assert found["a"]["ecc_single_bit"] == {
        "increase": 4, "total": 9, "first_seen": "1970-01-01T00:00:10Z", "last_seen": "1970-01-01T00:00:10Z",
    }  # fmt: skip
    assert found["b"]["ecc_double_bit"]["increase"] == 2
    assert found["b"]["xids"] is None


def test_remapped_rows_tell_of_themselves():
    names = ("remapped_rows_uncorrectable", "row_remap_pending", "row_remap_failure")
    found = errors([("a", 0, 1, 0, 0), ("b", 0, 0, 1, 0), ("c", 0, 0, 0, 1), ("d", 0, 0, 0, 0)], *names)
    assert {uuid: row["severity"] for uuid, row in found.items()} == {
        "c": "critical", "a": "warning", "b": "warning",
    }  # fmt: skip
    assert (found["b"]["row_remap_pending"], found["b"]["row_remap_failure"]) == (True, False)
    assert found["a"]["first_seen"] is None


# -- missing


def gpu(uuid, host="h", first=0, last=100, board=None, gpu_id="0"):
    return {
        "uuid": uuid, "board": board or uuid, "hostname": host, "first_ms": first, "last_ms": last, "gpu_id": gpu_id,
    }  # fmt: skip


def hosts(known, seen, setting=NOTHING_SET, **how):
    how = {"end_ms": 1000, "silence_ms": 10, **how}
    return [h.render() for h in compare_hosts(known, seen, setting=setting, **how)]


def test_what_a_host_had_is_expected_and_what_was_not_seen_is_missing():
    [host] = hosts([gpu("a"), gpu("b"), gpu("c", last=50, gpu_id="2")], {"a", "b"})
    assert (host["expected"], host["seen"], host["missing"], host["expected_from"]) == (3, 2, 1, "history")
    assert host["gpus"] == [
        {"uuid": "c", "gpu_id": "2", "model": None, "last_seen": "1970-01-01T00:00:00.050Z"}
    ]  # fmt: skip


def test_a_board_that_was_replaced_is_not_missing():
    [host] = hosts([gpu("a"), gpu("old", last=40), gpu("new", first=60)], {"a", "new"})
    assert (host["expected"], host["missing"], host["gpus"]) == (2, 0, [])
    assert most_at_once([(0, 40), (49, 60)], 10) == 2
    assert most_at_once([(0, 40), (51, 60)], 10) == 1
    assert most_at_once([], 10) == 0


def test_what_came_after_the_window_was_not_expected_in_it():
    assert hosts([gpu("a", first=1000, last=2000)], set()) == []


def test_the_instances_of_a_board_are_expected_as_one():
    known = [gpu(f"x:gi-{n}", board="x") for n in (1, 2)]
    [host] = hosts(known, {"x:gi-2"})
    assert (host["expected"], host["seen"], host["missing"]) == (1, 1, 0)
    [host] = hosts(known, set())
    assert [g["uuid"] for g in host["gpus"]] == ["x"]


def test_a_setting_says_what_is_expected_also_of_hosts_never_seen():
    setting = parse_expected_gpus("2, b=3,never=1")
    known = [gpu("a1", "a"), gpu("a2", "a"), gpu("a3", "a"), gpu("b1", "b"), gpu("nowhere", None)]
    found = hosts(known, {"a1", "b1"}, setting, named=setting.by_host)
    assert [(h["hostname"], h["expected"], h["seen"], h["missing"], h["unnamed"]) for h in found] == [
        (None, 1, 0, 1, 0), ("never", 1, 0, 1, 1), ("b", 3, 1, 2, 2), ("a", 2, 1, 1, 0),
    ]  # fmt: skip
    assert found[1]["last_seen"] is None
    assert {h["expected_from"] for h in found[1:]} == {"setting"}
    assert [g["uuid"] for g in found[3]["gpus"]] == ["a2"]


def test_expected_gpus_is_a_number_hosts_or_both():
    assert parse_expected_gpus("") == NOTHING_SET
    assert parse_expected_gpus("8").of("any") == 8
    assert parse_expected_gpus("node-a=8,node-b=4") == ExpectedGpus(None, {"node-a": 8, "node-b": 4})
    assert parse_expected_gpus("8,node-b=4").of("node-b") == 4
    assert read_settings({"EXPECTED_GPUS": "node-a=0"}).expected().of("node-a") == 0


@pytest.mark.parametrize("text", ["many", "-1", "a=", "=8", "a=b", "a=1,a=2", "8,8", "a=8.5", "\u0668"])
def test_expected_gpus_that_cannot_be_read_is_refused(text):
    with pytest.raises(BadConfig, match="EXPECTED_GPUS"):
        read_settings({"EXPECTED_GPUS": text})


# -- fields


def test_an_unknown_field_names_the_nearest_and_a_label_is_no_number():
    stored = pa.table({"uuid": ["a"], "my_own": [1.0], "pod": ["x"]})
    assert find_field("power_draw", stored) == find_field("DCGM_FI_DEV_POWER_USAGE", stored) == "power_draw"
    assert find_field("my_own", stored) == "my_own"
    with pytest.raises(InvalidInput, match="power_draw") as caught:
        find_field("power_drawn", stored)
    assert caught.value.details["parameter"] == "field"
    for label in ("pod", "uuid", "timestamp", "hostname"):
        with pytest.raises(InvalidInput, match="no number"):
            find_field(label, stored)
