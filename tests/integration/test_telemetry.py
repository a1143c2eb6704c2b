"""Records over HTTP: fields, order, pages, filters, steps, and what has not changed."""

from __future__ import annotations

import pytest

from tests.csvs import wide, wide_history, wide_row
from tests.functions import running
from tests.integration.asking import ask, fetch, pages, store


def test_fields_are_all_that_there_is_under_any_of_their_names(fleet):
    names = "fields=DCGM_FI_DEV_GPU_UTIL,pod,model,my_own_metric,timestamp"
    [record] = ask(fleet.query, f"/api/v1/gpus/GPU-node-t-1/telemetry?limit=1&{names}")["data"]
    assert list(record) == [
        "timestamp", "gpu_id", "uuid", "hostname", "gpu_utilization", "pod", "modelname", "my_own_metric",
    ]  # fmt: skip
    assert (record["gpu_utilization"], record["pod"], record["my_own_metric"]) == (0.1, None, None)
    records = ask(fleet.query, "/api/v1/telemetry?fields=my_own_metric&start_time=2024-01-15T10:00:03Z")[
        "data"
    ]
    assert {r["uuid"]: r["my_own_metric"] for r in records}["GPU-own"] == 999.0
    latest = ask(fleet.query, "/api/v1/telemetry/latest?fields=power_draw,xid_error")["data"]
    assert all(list(r)[4:] == ["power_draw", "xid_error"] for r in latest)


@pytest.mark.parametrize(
    ("name", "near"), [("gpu_utilisation", "gpu_utilization"), ("my_own", "my_own_metric")]
)
def test_an_unknown_field_is_refused_with_the_nearest(fleet, name, near):
    for path in ("/api/v1/gpus/GPU-own/telemetry", "/api/v1/telemetry", "/api/v1/telemetry/latest"):
        status, body = fleet.query.get(f"{path}?fields=power_draw,{name}")
        assert (status, body["error"]["details"]["nearest"]) == (400, near)


@pytest.mark.parametrize("limit", [1, 7, 40, 1000])
@pytest.mark.parametrize("path", ["/api/v1/gpus/GPU-node-t-1/telemetry?", "/api/v1/telemetry?"])
def test_pages_are_the_whole_in_either_order(fleet, path, limit):
    whole = ask(fleet.query, path + "limit=1000")
    assert whole["next"] is None
    keys = [(r["uuid"], r["timestamp"]) for r in whole["data"]]
    assert keys == sorted(keys)
    assert len(keys) >= 40
    assert pages(fleet.query, path, limit) == whole["data"]
    assert pages(fleet.query, path + "order=desc&", limit) == whole["data"][::-1]


def test_the_default_of_all_is_a_thousand_and_of_one_gpu_all(pipeline):
    store(pipeline, wide_history(1, 1500, host="node-many"))
    assert ask(pipeline.query, "/api/v1/gpus/GPU-node-many-0/telemetry")["count"] == 1500
    body = ask(pipeline.query, "/api/v1/telemetry?hostname=node-many")
    assert body["count"] == 1000
    rest = ask(pipeline.query, f"/api/v1/telemetry?hostname=node-many&cursor={body['next']}")
    assert (rest["count"], rest["next"]) == (500, None)


def test_a_cursor_is_stable_while_data_arrive(pipeline):
    store(pipeline, wide_history(2, 10, host="node-s"))
    path = "/api/v1/telemetry?hostname=node-s&limit=12"
    before = ask(pipeline.query, "/api/v1/telemetry?hostname=node-s")["data"]
    first = ask(pipeline.query, path)
    # Earlier and later records of both, and a GPU before them all.
    store(
        pipeline,
        wide([wide_row(f"2024-01-15T{h}:00:00Z", g, "node-s") for h in ("09", "11") for g in (0, 1)]),
    )
    store(pipeline, wide([wide_row("2024-01-15T10:00:00Z", 9, "node-s", uuid="GPU-aaa")]))
    second = ask(pipeline.query, f"{path}&cursor={first['next']}")["data"]
    assert first["data"] == before[:12]
    assert [r for r in second if r in before] == before[12:]
    assert [r["timestamp"] for r in second if r not in before] == ["2024-01-15T11:00:00Z"]


def test_a_cursor_of_a_relative_window_keeps_it(fleet):
    path = "/api/v1/telemetry?start_time=now-9000d&end_time=now&limit=50"
    whole = ask(fleet.query, "/api/v1/telemetry?start_time=now-9000d&end_time=now&limit=5000")["data"]
    assert pages(fleet.query, "/api/v1/telemetry?start_time=now-9000d&end_time=now&", 50) == whole
    cursor = ask(fleet.query, path)["next"]
    other = "/api/v1/telemetry?start_time=now-8999d&end_time=now&limit=50"
    assert fleet.query.get(f"{other}&cursor={cursor}")[0] == 400


@pytest.mark.parametrize(
    "other",
    ["&order=desc", "&hostname=node-t", "&start_time=2024-01-15", "&step=60s", "&status=stale", "&align=1s"],
)
def test_a_cursor_of_another_question_is_refused(fleet, other):
    cursor = ask(fleet.query, "/api/v1/telemetry?limit=3")["next"]
    status, body = fleet.query.get(f"/api/v1/telemetry?limit=3&cursor={cursor}{other}")
    assert (status, body["error"]["details"]["parameter"]) == (400, "cursor")
    assert "another question" in body["error"]["message"]
    assert fleet.query.get(f"/api/v1/gpus/GPU-node-t-0/telemetry?cursor={cursor}")[0] == 400


@pytest.mark.parametrize("cursor", ["x", "%20", "WzFd", "bnVsbA", "é", "A" * 5000, "----", "WyJhIl0="])
def test_a_garbled_cursor_is_refused(fleet, cursor):
    status, body = fleet.query.get(f"/api/v1/telemetry?cursor={cursor}")
    assert (status, body["error"]["code"]) == (400, "invalid_input")
    assert "`next`" in body["error"]["message"]


def test_labels_match_record_by_record(pipeline):
    head = "timestamp,uuid,temperature,pod,hostname\n"
    rows = [
        f"2024-01-15T10:00:0{s}Z,GPU-l,{s},{pod},node-l\n" for s, pod in enumerate(["a-1", "b-1", "a-2", ""])
    ]
    store(pipeline, (head + "".join(rows)).encode())
    for pattern, expected in [("a-*", [0, 2]), ("b-1", [1]), ("*", [0, 1, 2]), ("c", [])]:
        found = ask(pipeline.query, f"/api/v1/telemetry?hostname=node-l&pod={pattern}")["data"]
        assert [r["temperature"] for r in found] == expected
    for pattern, limit in [("a-*", 1), ("*", 2)]:
        path = f"/api/v1/telemetry?hostname=node-l&pod={pattern}&"
        assert pages(pipeline.query, path, limit) == ask(pipeline.query, path)["data"]
    newest = ask(pipeline.query, "/api/v1/telemetry/latest?pod=a-2")["data"]
    assert [r["uuid"] for r in newest] == ["GPU-l"]


def test_status_goes_by_the_gpu(fleet):
    keys = {(r["uuid"], r["timestamp"]) for r in ask(fleet.query, "/api/v1/telemetry?limit=10000")["data"]}
    stale = ask(fleet.query, "/api/v1/telemetry?limit=10000&status=stale")["data"]
    assert {(r["uuid"], r["timestamp"]) for r in stale} == keys
    assert ask(fleet.query, "/api/v1/telemetry?status=active")["data"] == []
    store(fleet, wide([wide_row("2024-01-16T10:00:00Z", 0, "node-tt")]))
    active = ask(fleet.query, "/api/v1/telemetry?status=active&as_of=latest")["data"]
    assert {r["uuid"] for r in active} == {"GPU-node-tt-0"}
    active = ask(fleet.query, "/api/v1/telemetry/latest?status=active&as_of=latest")["data"]
    assert {r["uuid"] for r in active} == {"GPU-node-tt-0"}
    path = "/api/v1/telemetry?status=stale&as_of=latest&"
    stale = {r["uuid"] for r in ask(fleet.query, path + "limit=10000")["data"]}
    assert stale == {uuid for uuid, _ in keys}
    assert pages(fleet.query, path, 100) == ask(fleet.query, path + "limit=10000")["data"]


# -- formats


# -- steps


def test_a_step_makes_one_record_of_many(pipeline):
    rows = [wide_row(f"2024-01-15T10:00:{s:02d}Z", host="node-step", util=f"{s}") for s in range(0, 60, 2)]
    store(pipeline, wide(rows))
    path = "/api/v1/gpus/GPU-node-step-0/telemetry?"
    body = ask(pipeline.query, path + "step=20s&fields=gpu_utilization")
    assert [(r["timestamp"][-3:-1], r["gpu_utilization"]) for r in body["data"]] == [
        ("00", 9.0), ("20", 29.0), ("40", 49.0),
    ]  # fmt: skip
    most = ask(pipeline.query, path + "step=60s&agg=max")["data"]
    assert [(r["gpu_utilization"], r["hostname"]) for r in most] == [(58.0, "node-step")]
    for more in ("step=7s&agg=count&", "align=7s&"):
        whole = ask(pipeline.query, path + more)["data"]
        assert len(whole) == 9
        for limit in (1, 4, 100):
            assert pages(pipeline.query, path + more, limit) == whole
            assert pages(pipeline.query, path + more + "order=desc&", limit) == whole[::-1]
            assert pages(pipeline.query, f"/api/v1/telemetry?hostname=node-step&{more}", limit) == whole


@pytest.mark.parametrize("query", ["agg=max", "step=5s&align=5s", "step=0s", "step=-5s", "agg=mean&step=5s"])
def test_steps_that_are_none_are_refused(fleet, query):
    assert fleet.query.get(f"/api/v1/telemetry?{query}")[0] == 400


# -- what has not changed


def test_what_has_not_changed_is_304(pipeline):
    store(pipeline, wide_history(2, 10, host="node-e"))
    paths = [
        "/api/v1/gpus/GPU-node-e-0/telemetry",
        "/api/v1/gpus/GPU-node-e-0/telemetry?format=csv",
        "/api/v1/telemetry",
        "/api/v1/telemetry/latest",
    ]
    tags = {path: fetch(pipeline.query, path)[1]["ETag"] for path in paths}
    assert len(set(tags.values())) == len(tags)
    for path, tag in tags.items():
        assert tag.startswith('W/"')
        for given in (tag, f'"x", {tag}', tag.removeprefix("W/")):
            status, body, headers = pipeline.query.call("GET", path, headers={"If-None-Match": given})
            assert (status, body, headers["ETag"]) == (304, b"", tag)
        for given in ('W/"x"', "*", "garbage"):
            assert fetch(pipeline.query, path, **{"If-None-Match": given})[1]["ETag"] == tag
    # Another GPU's records leave this one's answer as it is.
    store(pipeline, wide([wide_row(uuid="GPU-zzz", host="node-z")]))
    answers = {
        path: pipeline.query.call("GET", path, headers={"If-None-Match": tag})[0]
        for path, tag in tags.items()
    }
    assert [answers[path] for path in paths] == [304, 304, 200, 200]
    store(pipeline, wide([wide_row(host="node-e")]))
    for path, tag in tags.items():
        assert fetch(pipeline.query, path, **{"If-None-Match": tag})[1]["ETag"] != tag


def test_the_newest_values_of_active_gpus_keep_their_name_as_time_goes_by(fleet):
    path = "/api/v1/telemetry/latest?status=stale"
    _, _, first = fleet.query.call("GET", path)
    headers = {"If-None-Match": first["ETag"]}
    assert fleet.query.call("GET", path, headers=headers)[0] == 304
    other = fleet.query.call("GET", "/api/v1/telemetry/latest?status=active", headers=headers)
    assert other[0] == 200


def test_a_moving_window_has_a_name_of_its_own(fleet):
    path = "/api/v1/gpus/GPU-own/telemetry?start_time=now-9000d"
    tag = fetch(fleet.query, path)[1]["ETag"]
    assert fetch(fleet.query, path, **{"If-None-Match": tag})[1]["ETag"] != tag


def test_an_answer_has_the_same_name_from_every_instance(fleet, tmp_path):
    with running("query", tmp_path, etcd=fleet.etcd, prefix=fleet.prefix) as other:
        for path in ("/api/v1/gpus/GPU-own/telemetry?format=csv", "/api/v1/telemetry?order=desc"):
            tag = fetch(fleet.query, path)[1]["ETag"]
            assert other.call("GET", path, headers={"If-None-Match": tag})[0] == 304


# -- limits


# -- compressed


# -- long answers
