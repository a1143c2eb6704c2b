"""Fleet questions over HTTP, of a fleet with one GPU of every kind of trouble."""

from __future__ import annotations

import contextlib
import json
import secrets
from types import SimpleNamespace

import jsonschema
import pytest

from functions.query.fleet.window import format_ms
from shared import clock
from shared.api.openapi import build_document
from tests.functions import free_port, running

HOUR_S = 3600
#: Seconds between records.
STEP = 30
COLUMNS = (
    "gpu_utilization", "memory_used_mb", "power_draw", "sm_active", "throttle_reasons", "xid_error",
    "energy_consumption_j", "pod", "namespace",
)  # fmt: skip
DOCUMENT = build_document()
PATHS = (
    "summary", "idle", "missing", "throttled", "errors", "busy-but-empty", "top?field=power_draw", "utilization",
)  # fmt: skip


def csv_of(start_ms, gpus):
    """Records of an hour of GPUs: name -> (host, index, [seconds before the end], second -> values)."""
    lines = ["timestamp,uuid,hostname,gpu_id,modelname," + ",".join(COLUMNS)]
    for uuid, (host, index, seconds, values) in gpus.items():
        for second in seconds:
            cells = {**dict.fromkeys(COLUMNS, ""), **values(second)}
            time = format_ms(start_ms + second * 1000)
            lines.append(f"{time},{uuid},{host},{index},H100," + ",".join(str(cells[c]) for c in COLUMNS))
    return ("\n".join(lines) + "\n").encode()


def busy(_second):
    return {
        "gpu_utilization": 98, "memory_used_mb": 70000, "power_draw": 600, "sm_active": 0.8, "throttle_reasons": 0,
        "xid_error": 0, "pod": "train-0", "namespace": "ml",
    }  # fmt: skip


def but(**other):
    return lambda second: {**busy(second), **other}


def idle(**other):
    return but(
        gpu_utilization=0, sm_active=0, power_draw=100, throttle_reasons=1, pod="", namespace="", **other
    )


def late(second, before=None, **values):
    return {**busy(second), **(values if second >= HOUR_S // 2 else before or {})}


EVER = range(0, HOUR_S, STEP)
FLEET = {
    "GPU-busy": ("node-a", 0, EVER, busy),
    "GPU-idle": ("node-a", 1, EVER, idle(memory_used_mb=4)),
    "GPU-holds": ("node-a", 2, EVER, idle(memory_used_mb=60000)),
    "GPU-hot": ("node-a", 3, EVER, lambda s: late(s, throttle_reasons=64 + 4)),
    "GPU-broken": ("node-b", 0, EVER, lambda s: late(s, {"pod": "eval-1"}, xid_error=79)),
    "GPU-empty": ("node-b", 1, EVER, but(sm_active=0.05)),
    "GPU-stale": ("node-b", 2, range(0, HOUR_S - 600, STEP), busy),
    "GPU-counted": ("node-b", 3, EVER, lambda s: {**busy(s), "energy_consumption_j": 1000 + s}),
}
#: Seen in the hour before, and no more.
GONE = {
    "GPU-gone": ("node-b", 4, range(-HOUR_S, -STEP, STEP), busy),
    "GPU-node-c": ("node-c", 0, range(-HOUR_S, -STEP, STEP), busy),
}


@contextlib.contextmanager
def functions(etcd_endpoint, folder, **settings):
    where = {"etcd": etcd_endpoint, "prefix": f"/test-{secrets.token_hex(6)}"}
    with contextlib.ExitStack() as stack:
        started = {
            name: stack.enter_context(running(name, folder, **where, **settings))
            for name in ("upload", "collect", "query")
        }
        yield SimpleNamespace(**started, **where)


def store(pipeline, csv):
    status, body = pipeline.upload.upload(csv)
    assert (status, body["data"]["rejected"]) == (200, 0), body
    assert pipeline.collect.call("POST", "/collect")[0] == 200


def ask(pipeline, question):
    status, body = pipeline.query.get(f"/api/v1/fleet/{question}")
    assert status == 200, body
    path = f"/api/v1/fleet/{question.partition('?')[0]}"
    declared = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(body, {**declared, "components": DOCUMENT["components"]})
    return body["data"]


def gpus(answer):
    return [gpu["uuid"] for gpu in answer["gpus"]]


@pytest.fixture(scope="module")
def live(etcd_endpoint, tmp_path_factory):
    """A fleet that reports now: its last record is half a minute old."""
    with functions(etcd_endpoint, tmp_path_factory.mktemp("live")) as pipeline:
        pipeline.start_ms = clock.now_ms() // 1000 * 1000 - HOUR_S * 1000
        store(pipeline, csv_of(pipeline.start_ms, GONE))
        store(pipeline, csv_of(pipeline.start_ms, FLEET))
        yield pipeline


@pytest.fixture(scope="module")
def old(pipeline):
    """A history of 2024 that reports little: nothing but utilization, of one GPU, and power of another."""
    lines = [
        "timestamp,uuid,hostname,gpu_id,gpu_utilization,power_draw",
        "2024-01-15T08:00:00Z,GPU-1,n,0,50,",
    ]
    lines += [f"2024-01-15T10:{m:02d}:00Z,GPU-1,n,0,3," for m in range(5)]
    lines += [f"2024-01-15T10:{m:02d}:00Z,GPU-2:gi-{i},n,1,,360" for i in (1, 2) for m in range(5)]
    store(pipeline, ("\n".join(lines) + "\n").encode())
    return pipeline


# -- a live fleet


def test_the_summary_counts_every_kind_of_trouble(live):
    answer = ask(live, "summary")
    assert answer["window"]["basis"] == "clock"
    expected = {
        "gpus_seen": 8, "gpus_expected": 10, "gpus_missing": 2, "gpus_stale": 1, "mig_instances": 0,
        "hosts_seen": 2, "hosts_expected": 3, "hosts_missing": 1,
        "idle": 2, "idle_holding_memory": 1, "throttled": 1, "with_errors": 1, "with_critical_errors": 1,
        "busy_but_empty": 1,
    }  # fmt: skip
    assert {name: answer[name] for name in expected} == expected
    # Of the eight, the stale one does not draw power any more as far as is known.
    assert answer["power_kw"] == pytest.approx((5 * 600 + 2 * 100) / 1000)
    assert answer["energy_from"] == ["energy_consumption_j", "power_draw"]
    assert answer["gpu_utilization"] == pytest.approx(98 * 6 / 8, abs=0.001)
    assert answer["newest_record"] == format_ms(live.start_ms + (HOUR_S - STEP) * 1000)
    assert 0 <= answer["age_s"] < 300
    assert "ecc_dbe_volatile" in answer["not_reported"]
    assert "gpu_utilization" not in answer["not_reported"]


def test_energy_is_the_counters_or_power_times_time(live):
    start, end = live.start_ms, live.start_ms + HOUR_S * 1000
    answer = ask(live, f"summary?start_time={start}&end_time={end}&hostname=node-b")
    # Three GPUs at 600 W, one of them for ten minutes less, and one whose counter says 1 J a second.
    joules = 2 * 600 * (HOUR_S - STEP) + 600 * (HOUR_S - 600 - STEP) + (HOUR_S - STEP)
    assert answer["energy_kwh"] == pytest.approx(joules / 3.6e6, abs=1e-5)


def test_idle_gpus_are_listed_the_one_that_holds_memory_first(live):
    answer = ask(live, "idle")
    assert gpus(answer) == ["GPU-holds", "GPU-idle"]
    first = answer["gpus"][0]
    assert (first["hostname"], first["gpu_id"], first["model"], first["pod"]) == ("node-a", "2", "H100", None)
    assert (first["memory_used_mb"], first["holding_memory"], first["sm_active_avg"]) == (60000, True, 0)
    assert (answer["count"], answer["holding_memory"], answer["gpus_reporting"]) == (2, 1, 8)
    assert ask(live, "idle?memory_mb=60000")["holding_memory"] == 0
    assert ask(live, "idle?threshold=100")["count"] == 8


def test_missing_gpus_and_hosts_are_named_with_when_they_were_seen_last(live):
    answer = ask(live, "missing")
    assert [(h["hostname"], h["expected"], h["seen"], h["missing"]) for h in answer["hosts"]] == [
        ("node-c", 1, 0, 1), ("node-b", 5, 4, 1),
    ]  # fmt: skip
    last = format_ms(live.start_ms - 2 * STEP * 1000)
    assert answer["hosts"][1]["gpus"] == [
        {"uuid": "GPU-gone", "gpu_id": "4", "model": "H100", "last_seen": last}
    ]  # fmt: skip
    assert ask(live, "missing?hostname=node-a")["hosts"] == []


def test_throttled_gpus_come_with_their_reasons(live):
    answer = ask(live, "throttled")
    assert gpus(answer) == ["GPU-hot"]
    [hot] = answer["gpus"]
    assert [r["reason"] for r in hot["reasons"]] == ["sw_power_cap", "hw_thermal_slowdown"]
    assert hot["share"] == pytest.approx(0.5, abs=0.02)
    assert (hot["throttled_now"], hot["power_violation_s"]) == (True, None)
    assert hot["first_seen"] == format_ms(live.start_ms + HOUR_S // 2 * 1000)


def test_errors_come_with_what_they_mean(live):
    answer = ask(live, "errors")
    assert gpus(answer) == ["GPU-broken"]
    [broken] = answer["gpus"]
    [xid] = broken["xids"]
    assert (xid["code"], xid["severity"], xid["events"], xid["since_before"]) == (79, "critical", 1, False)
    assert "bus" in xid["meaning"]
    assert xid["first_seen"] == format_ms(live.start_ms + HOUR_S // 2 * 1000)
    assert broken["ecc_double_bit"] is None
    assert answer["by_severity"]["critical"] == 1


def test_busy_but_empty_gpus_are_found(live):
    assert gpus(ask(live, "busy-but-empty")) == ["GPU-empty"]
    assert ask(live, "busy-but-empty?sm_active=0.01")["gpus"] == []


def test_gpus_are_ranked_by_any_field(live):
    answer = ask(live, "top?field=memory_used_mb&agg=max&limit=2&order=asc")
    assert [(g["uuid"], g["value"]) for g in answer["gpus"]] == [("GPU-idle", 4), ("GPU-holds", 60000)]
    assert (answer["unit"], answer["gpus_reporting"], answer["count"]) == ("MiB", 8, 2)
    assert ask(live, "top?field=xid_error&agg=last")["gpus"][0]["uuid"] == "GPU-broken"
    assert ask(live, "top?field=throttle_reasons&agg=p95")["gpus"][0]["value"] == 68


def test_utilization_is_grouped_by_the_labels_of_records(live):
    by_host = {g["name"]: g for g in ask(live, "utilization?by=host")["groups"]}
    assert {name: g["gpus"] for name, g in by_host.items()} == {"node-a": 4, "node-b": 4}
    assert by_host["node-a"]["gpu_utilization"] == {"avg": pytest.approx(49, abs=1), "p95": 98, "max": 98}
    assert by_host["node-a"]["tensor_active"] is None
    by_pod = {g["name"]: g for g in ask(live, "utilization?by=pod")["groups"]}
    assert {name: g["gpus"] for name, g in by_pod.items()} == {"train-0": 6, "eval-1": 1, None: 2}
    assert by_pod[None]["gpu_utilization"]["max"] == 0


def test_filters_are_of_gpus_and_pods_are_of_records(live):
    assert ask(live, "summary?hostname=node-a")["gpus_seen"] == 4
    assert ask(live, "summary?hostname=node-*&status=active")["gpus_stale"] == 0
    of_pod = ask(live, "idle?pod=train-*")
    assert (of_pod["gpus_seen"], of_pod["gpus"]) == (6, [])
    assert ask(live, "idle?pod=eval-1")["gpus_seen"] == 1
    nobody = ask(live, "idle?model=A100")
    assert (nobody["gpus_seen"], nobody["gpus"], nobody["not_reported"][0]) == (0, None, "gpu_utilization")


def test_an_answer_is_the_same_until_something_is_stored(live):
    path = f"/api/v1/fleet/summary?start_time={live.start_ms}&end_time={live.start_ms + HOUR_S * 1000}"
    status, _, headers = live.query.call("GET", path)
    tag = headers["ETag"]
    status, body, again = live.query.call("GET", path, headers={"If-None-Match": tag})
    assert (status, body, again["ETag"]) == (304, b"", tag)
    other = f"{path}&threshold=6"
    assert live.query.call("GET", other, headers={"If-None-Match": tag})[0] == 200
    store(live, csv_of(live.start_ms - 10 * HOUR_S * 1000, {"GPU-x": ("node-x", 0, [0], busy)}))
    status, _, headers = live.query.call("GET", path, headers={"If-None-Match": tag})
    assert (status, headers["ETag"] != tag) == (200, True)


def test_an_hour_that_came_twice_counts_once(live):
    """The same records in two segments are put in order and resolved, whatever is asked."""
    window = f"start_time={live.start_ms}&end_time={live.start_ms + HOUR_S * 1000}"
    questions = [f"{p}{'&' if '?' in p else '?'}{window}" for p in (*PATHS, "top?field=power_draw&agg=p95")]
    before = [ask(live, question) for question in questions]
    store(
        live,
        csv_of(live.start_ms, {u: FLEET[u] for u in ("GPU-hot", "GPU-broken", "GPU-counted", "GPU-idle")}),
    )
    assert [ask(live, question) for question in questions] == before


# -- histories, and what was not reported


def test_of_a_history_the_newest_hour_is_meant(old):
    answer = ask(old, "summary")
    assert answer["window"] == {
        "start_time": "2024-01-15T09:04:01Z", "end_time": "2024-01-15T10:04:01Z", "basis": "latest",
    }  # fmt: skip
    assert (answer["gpus_seen"], answer["gpus_stale"], answer["idle"], answer["mig_instances"]) == (
        2,
        0,
        1,
        2,
    )
    # Both instances say what the board draws.
    assert (answer["power_kw"], answer["energy_kwh"]) == (0.36, pytest.approx(0.36 * 4 / 60))
    [first] = ask(old, "idle")["gpus"]
    assert (first["since"], first["or_earlier"]) == ("2024-01-15T10:00:00Z", True)


def test_what_was_not_reported_is_null_and_not_nothing(old):
    answer = ask(old, "summary")
    for name in ("idle_holding_memory", "throttled", "with_errors", "with_critical_errors", "busy_but_empty"):
        assert answer[name] is None, name
    for path, missing in (
        ("throttled", "throttle_reasons"), ("errors", "xid_error"), ("busy-but-empty", "sm_active"),
        ("top?field=temperature", "temperature"),
    ):  # fmt: skip
        answer = ask(old, path)
        assert missing in answer["not_reported"]
        assert (answer["gpus"], answer["count"], answer["gpus_seen"]) == (None, None, 2)
    assert ask(old, "idle")["gpus"][0]["memory_used_mb"] is None
    assert ask(old, "idle")["holding_memory"] is None


def test_a_window_without_records_has_no_gpus_and_nothing_reported(old):
    window = "start_time=2020-01-01&end_time=2020-01-02"
    for path in PATHS:
        answer = ask(old, f"{path}{'&' if '?' in path else '?'}{window}")
        assert (answer["window"]["basis"], answer["gpus_seen"]) == ("given", 0)
    assert ask(old, f"summary?{window}")["gpus_expected"] == 0
    assert ask(old, f"idle?{window}")["gpus"] is None
    later = ask(old, "missing?start_time=2024-02-01&end_time=2024-02-02")
    assert [(h["hostname"], h["missing"]) for h in later["hosts"]] == [("n", 2)]


def test_a_question_that_cannot_be_is_refused(old):
    for question, said in (
        ("top?field=power_drew", "power_draw"), ("top", "field"), ("idle?threshold=101", "threshold"),
        ("utilization?by=rack", "by"), ("summary?limit=3", "limit"), ("summary?start_time=soon", "RFC 3339"),
    ):  # fmt: skip
        status, body = old.query.get(f"/api/v1/fleet/{question}")
        assert (status, said in body["error"]["message"]) == (400, True), body


def test_a_setting_says_what_is_expected_and_an_empty_store_is_no_error(etcd_endpoint, tmp_path):
    with functions(etcd_endpoint, tmp_path, EXPECTED_GPUS="8,node-z=2") as pipeline:
        for path in PATHS:
            assert ask(pipeline, path)["gpus_seen"] == 0
        assert ask(pipeline, "idle")["gpus"] is None
        [host] = ask(pipeline, "missing")["hosts"]
        assert (host["hostname"], host["missing"], host["unnamed"], host["last_seen"]) == (
            "node-z",
            2,
            2,
            None,
        )
        assert ask(pipeline, "summary")["hosts_missing"] == 1


def test_a_window_longer_than_allowed_is_refused(etcd_endpoint, tmp_path):
    where = {"etcd": etcd_endpoint, "prefix": f"/test-{secrets.token_hex(6)}"}
    with running("query", tmp_path, **where, MAX_QUERY_RANGE="1h") as query:
        assert query.get("/api/v1/fleet/summary")[0] == 200
        status, body = query.get("/api/v1/fleet/summary?start_time=now-61m&end_time=now")
        assert (status, body["error"]["code"]) == (413, "limit_exceeded")


def test_without_etcd_the_answer_is_503(tmp_path):
    with running("query", tmp_path, etcd=f"127.0.0.1:{free_port()}", prefix="/nowhere") as query:
        for path in ("summary", "missing", "top?field=power_draw"):
            status, body = query.get(f"/api/v1/fleet/{path}")
            assert (status, body["error"]["code"]) == (503, "unavailable"), json.dumps(body)
