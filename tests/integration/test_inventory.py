"""Which GPUs, hosts, fields and clusters there are, over HTTP: filters, pages, status, ETags."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from shared.fields import LABELS_SAY
from shared.records import LABELS
from tests.csvs import long, long_row, wide, wide_row
from tests.functions import free_port, running

LISTS = ("/api/v1/gpus", "/api/v1/hosts", "/api/v1/clusters", "/api/v1/fields")
ROUTES = (*LISTS, "/api/v1/stats")


def get(function, path, etag=None):
    """Return (status, body, ETag)."""
    headers = {} if etag is None else {"If-None-Match": etag}
    status, body, headers = function.call("GET", path, headers=headers)
    return status, body, headers.get("ETag")


def data_of(function, path):
    status, body, _ = get(function, path)
    assert status == 200, body
    if isinstance(body["data"], list):
        assert body["count"] == len(body["data"])
    return body["data"]


def uuids(function, query="", path="/api/v1/gpus"):
    return [g["uuid"] for g in data_of(function, path + query)]


def now(seconds=0):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def empty(pipeline):
    """What was answered before anything was stored."""
    return {path: get(pipeline.query, path) for path in ROUTES}


@pytest.fixture(scope="module")
def query(pipeline, empty):
    """Query over a fleet of two clusters: a node that reports now, an old one, one of the long form."""
    files = [
        wide([wide_row(now(), gpu=g, host="inv-a1", uuid=f"GPU-a-{g:02d}") for g in (0, 2, 10)]),
        wide([
            wide_row("2024-01-15T10:28:00Z", gpu=0, host="inv-a2", uuid="GPU-old", power="90", temp="60"),
            wide_row("2024-01-15T10:29:00Z", gpu=0, host="inv-a2", uuid="GPU-old", power="100", temp="61"),
            wide_row("2024-01-15T10:30:00Z", gpu=0, host="inv-a2", uuid="GPU-old", power="", temp="62"),
        ]),
        long([
            long_row("DCGM_FI_DEV_GPU_UTIL", "7", host="inv-b", pod="train-1", labels=',GPU_I_ID=""3""'),
            long_row("DCGM_FI_DEV_GPU_TEMP", "63", host="inv-b", pod="train-1", time="2025-07-18T20:42:35Z"),
            long_row("DCGM_FI_DEV_NEW_THING", "5", host="inv-b", gpu=1),
        ]),
    ]  # fmt: skip
    for data in files:
        status, body = pipeline.upload.upload(data)
        assert (status, body["data"]["rejected"]) == (200, 0), body
    assert pipeline.collect.call("POST", "/collect")[0] == 200
    return pipeline.query


def test_an_empty_store_has_none_of_anything(empty):
    for path in LISTS:
        status, body, etag = empty[path]
        assert (status, body["data"], body["count"]) == (200, [], 0)
        assert etag
    stats = empty["/api/v1/stats"][1]["data"]
    assert (stats["rows"], stats["gpus"], stats["bytes_per_row"], stats["first_time"]) == (0, 0, None, None)


def test_gpus_come_by_host_and_index(query):
    gpus = data_of(query, "/api/v1/gpus?cluster=default")
    keys = [(g["hostname"], int(g["id"])) for g in gpus]
    assert keys == sorted(keys)
    assert [g["id"] for g in gpus if g["hostname"] == "inv-a1"] == ["0", "2", "10"]
    mig = next(g for g in gpus if g["gpu_instance_id"])
    assert mig["uuid"].startswith("GPU-inv-b-0")
    assert (
        mig.items()
        >= {
            "gpu_instance_id": "3",
            "pod": "train-1",
            "namespace": None,
            "name": "NVIDIA H100 80GB HBM3",
            "driver_version": "535.129.03",
        }.items()
    )


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ("hostname=inv-a1", ["GPU-a-00", "GPU-a-02", "GPU-a-10"]),
        ("hostname=inv-a*&status=stale", ["GPU-old"]),
        ("hostname=inv-a*&status=active", ["GPU-a-00", "GPU-a-02", "GPU-a-10"]),
        ("hostname=inv-a", []),
        ("hostname=inv-a2&model=*H100*", ["GPU-old"]),
        ("model=H100", []),
        ("hostname=inv-a2&namespace=*", []),
        ("cluster=elsewhere", []),
        ("hostname=%22%5C", []),
    ],
)  # fmt: skip
def test_filters_choose_by_the_newest_labels(query, filters, wanted):
    assert uuids(query, f"?{filters}") == wanted


def test_a_pod_is_a_filter(query):
    found = data_of(query, "/api/v1/gpus?pod=train-*")
    assert {g["pod"] for g in found} == {"train-1"}


def test_status_goes_by_the_clock_or_by_the_newest_record(query):
    by_clock = {g["uuid"]: g["status"] for g in data_of(query, "/api/v1/gpus")}
    assert (by_clock["GPU-a-00"], by_clock["GPU-old"]) == ("active", "stale")
    by_newest = data_of(query, "/api/v1/gpus?as_of=latest&hostname=inv-a1")
    assert {g["status"] for g in by_newest} == {"active"}


def test_pages_are_the_whole_list_in_order(query):
    everything = uuids(query)
    for limit in (1, 2, len(everything), len(everything) + 1):
        path, found = f"?limit={limit}", []
        for _ in range(len(everything) + 1):
            _, body, _ = get(query, f"/api/v1/gpus{path}")
            assert body["count"] == len(body["data"]) <= limit
            found += [g["uuid"] for g in body["data"]]
            if body["next"] is None:
                break
            path = f"?limit={limit}&cursor={body['next']}"
        assert found == everything


@pytest.mark.parametrize("cursor", ["x", "WyJhIl0", "%C3%A4", "W10", "bnVsbA", "A" * 9000])
def test_a_cursor_that_was_not_given_is_refused(query, cursor):
    status, body, _ = get(query, f"/api/v1/gpus?cursor={cursor}")
    assert (status, body["error"]["details"]) == (400, {"parameter": "cursor"})


def test_a_cursor_of_another_question_is_refused(query):
    cursor = get(query, "/api/v1/gpus?limit=1")[1]["next"]
    for other in ("/api/v1/gpus?hostname=inv-a1", "/api/v1/hosts/inv-a1/gpus?"):
        status, body, _ = get(query, f"{other}&cursor={cursor}")
        assert (status, "another question" in body["error"]["message"]) == (400, True)


def test_one_gpu_has_its_newest_values_each_with_its_time(query):
    gpu = data_of(query, "/api/v1/gpus/GPU-old")
    assert (
        gpu.items()
        >= {
            "uuid": "GPU-old",
            "hostname": "inv-a2",
            "status": "stale",
            "first_seen": "2024-01-15T10:28:00Z",
        }.items()
    )
    assert gpu["latest"]["power_draw"] == {"value": 100.0, "unit": "W", "timestamp": "2024-01-15T10:29:00Z"}
    assert gpu["latest"]["temperature"] == {"value": 62.0, "unit": "C", "timestamp": "2024-01-15T10:30:00Z"}
    assert data_of(query, "/api/v1/gpus/0?hostname=inv-a2") == gpu
    mig = next(g for g in data_of(query, "/api/v1/gpus") if g["gpu_instance_id"])
    latest = data_of(query, f"/api/v1/gpus/{quote(mig['uuid'])}")["latest"]
    assert latest["gpu_utilization"]["value"] == 7.0
    assert "power_draw" not in latest


def test_what_is_not_there_says_what_lists_it(query):
    for path, lists in (
        ("gpus/GPU-none", "/api/v1/gpus"),
        ("gpus/0?hostname=inv-none", "/api/v1/gpus"),
        ("hosts/inv-a/gpus", "/api/v1/hosts"),
        ("hosts/inv-*/gpus", "/api/v1/hosts"),
    ):
        status, body, _ = get(query, f"/api/v1/{path}")
        assert (status, lists in body["error"]["message"]) == (404, True)
    status, body, _ = get(query, "/api/v1/gpus/0")
    assert status == 409
    assert "inv-a2" in {c["hostname"] for c in body["error"]["details"]["candidates"]}


def test_hosts_count_their_gpus(query):
    hosts = {h["hostname"]: h for h in data_of(query, "/api/v1/hosts")}
    assert list(hosts) == sorted(hosts)
    host = hosts["inv-a1"]
    assert (host["status"], host["gpu_count"], host["active"], host["stale"]) == ("active", 3, 3, 0)
    assert (host["clusters"], host["models"]) == (["default"], ["NVIDIA H100 80GB HBM3"])
    assert (
        hosts["inv-a2"].items()
        >= {"status": "stale", "active": 0, "stale": 1, "last_seen": "2024-01-15T10:30:00Z"}.items()
    )
    assert [h["hostname"] for h in data_of(query, "/api/v1/hosts?status=active")] == ["inv-a1"]
    assert [h["hostname"] for h in data_of(query, "/api/v1/hosts?pod=train-1")] == ["inv-b"]


def test_the_gpus_of_a_host(query):
    assert uuids(query, path="/api/v1/hosts/inv-a1/gpus") == uuids(query, "?hostname=inv-a1")
    assert uuids(query, "?status=stale", "/api/v1/hosts/inv-a1/gpus") == []


def test_a_host_with_a_star_is_that_host(pipeline, query):
    pipeline.upload.upload(
        wide([wide_row(host="star-*", uuid="GPU-star"), wide_row(host="star-2", uuid="GPU-2")])
    )
    pipeline.collect.call("POST", "/collect")
    assert uuids(query, path="/api/v1/hosts/star-*/gpus") == ["GPU-star"]
    assert uuids(query, "?hostname=star-*") == ["GPU-star", "GPU-2"]


def test_labels_that_json_must_escape_arrive_as_they_were(pipeline, query):
    name = 'q"uo\\te,ü\t'
    cell = '"' + name.replace('"', '""') + '"'
    pipeline.upload.upload(wide([wide_row(host=cell, uuid="GPU-quoted")]))
    pipeline.collect.call("POST", "/collect")
    [gpu] = [g for g in data_of(query, "/api/v1/gpus") if g["uuid"] == "GPU-quoted"]
    assert gpu["hostname"] == name.strip()


def test_fields_say_what_they_mean_and_who_reports_them(query):
    fields = {f["name"]: f for f in data_of(query, "/api/v1/fields")}
    assert next(iter(fields)) == "gpu_utilization"
    power = fields["power_draw"]
    assert (power["unit"], power["minimum"], power["maximum"], power["kind"]) == ("W", 0.0, None, "metric")
    assert power["names"][0] == "DCGM_FI_DEV_POWER_USAGE"
    assert {"power.draw"} <= set(power["names"])
    new = fields["dcgm_fi_dev_new_thing"]
    assert (new["gpus"], new["unit"], new["names"]) == (1, "", [])
    assert fields["pod"]["kind"] == "label"
    assert fields["pod"]["gpus"] >= 1
    assert all(f["stored"] for f in fields.values())
    assert "sm_active" not in fields
    every = {f["name"]: f for f in data_of(query, "/api/v1/fields?all=true")}
    assert (every["sm_active"]["gpus"], every["sm_active"]["stored"]) == (0, False)
    assert every.items() >= fields.items()


def test_every_label_says_what_it_is():
    assert set(LABELS_SAY) == set(LABELS)


def test_clusters_and_stats_count_what_gpus_lists(query):
    gpus = data_of(query, "/api/v1/gpus")
    [cluster] = data_of(query, "/api/v1/clusters")
    assert cluster["name"] == "default"
    assert (cluster["gpus"], cluster["hosts"]) == (len(gpus), len({g["hostname"] for g in gpus}))
    assert cluster["active"] == sum(g["status"] == "active" for g in gpus)
    stats = data_of(query, "/api/v1/stats")
    assert (stats["gpus"], stats["hosts"], stats["clusters"]) == (len(gpus), cluster["hosts"], 1)
    assert stats["rows"] == sum(level["rows"] for level in stats["levels"]) >= len(gpus)
    assert stats["bytes"] == sum(day["bytes"] for day in stats["days"])
    assert stats["segments"] == sum(day["segments"] for day in stats["days"]) > 0
    assert stats["bytes_per_row"] == pytest.approx(stats["bytes"] / stats["rows"], abs=0.001)
    assert stats["first_time"] <= "2024-01-15T10:28:00Z" < stats["last_time"]
    assert stats["fields"] == len(data_of(query, "/api/v1/fields"))


def test_an_etag_holds_until_something_is_stored(pipeline, query):
    paths = (*ROUTES, "/api/v1/gpus/GPU-old", "/api/v1/hosts/inv-a2/gpus", "/api/v1/gpus?limit=2")
    etags = {path: get(query, path)[2] for path in paths}
    assert len(set(etags.values())) == len(paths)
    for path, etag in etags.items():
        assert get(query, path, etag) == (304, b"", etag)
        assert get(query, path, f'"other", {etag}')[0] == 304
        assert get(query, path, '"other"')[0] == 200
    pipeline.upload.upload(wide([wide_row(now(), host="inv-a2", uuid="GPU-old", gpu=0)]))
    pipeline.collect.call("POST", "/collect")
    for path, etag in etags.items():
        status, body, changed = get(query, path, etag)
        assert (status, changed != etag) == (200, True)
        assert body["success"]


def test_an_etag_ends_when_a_gpu_becomes_stale(pipeline, tmp_path):
    """Nothing is stored meanwhile: what changes is the clock."""
    where = {"etcd": pipeline.etcd, "prefix": f"{pipeline.prefix}-stale"}
    with (
        running("upload", tmp_path, **where) as upload,
        running("collect", tmp_path, **where) as collect,
        running("query", tmp_path, STALE_AFTER="3600s", **where) as query,
        running("query", tmp_path, STALE_AFTER="1s", **where) as strict,
    ):
        upload.upload(wide([wide_row(now(-60), uuid="GPU-1")]))
        collect.call("POST", "/collect")
        # Two settings of the limit stand for two times of the clock: the answers are known by the same rule.
        found = {f: get(f, "/api/v1/gpus") for f in (query, strict)}
        assert [found[f][1]["data"][0]["status"] for f in (query, strict)] == ["active", "stale"]
        assert get(strict, "/api/v1/gpus", found[query][2])[0] == 200
        assert get(strict, "/api/v1/gpus/GPU-1", get(query, "/api/v1/gpus/GPU-1")[2])[0] == 200
        assert get(strict, "/api/v1/gpus?as_of=latest", get(query, "/api/v1/gpus?as_of=latest")[2])[0] == 304


def test_without_etcd_nothing_is_said_to_be_empty(prefix, tmp_path):
    with running("query", tmp_path, etcd=f"127.0.0.1:{free_port()}", prefix=prefix) as query:
        for path in (*ROUTES, "/api/v1/gpus/GPU-1", "/api/v1/hosts/h/gpus"):
            status, body, etag = get(query, path, '"any"')
            assert (status, body["error"]["code"], etag) == (503, "unavailable", None)


def test_metrics_called_as_columns_of_a_summary_are_metrics(etcd_endpoint, tmp_path):
    names = ("status", "first_ms", "last_ms", "board", "active")
    body = f"timestamp,uuid,hostname,{','.join(names)}\n2024-01-15T10:30:00Z,GPU-n,node-n,1,2,3,4,5\n"
    where = {"etcd": etcd_endpoint, "prefix": f"/test-{secrets.token_hex(6)}"}
    with (
        running("upload", tmp_path, **where) as upload,
        running("collect", tmp_path, **where) as collect,
        running("query", tmp_path, **where) as query,
    ):
        assert upload.upload(body.encode())[0] == 200
        assert collect.call("POST", "/collect")[0] == 200
        [gpu] = data_of(query, "/api/v1/gpus?status=stale")
        assert (gpu["status"], gpu["last_seen"]) == ("stale", "2024-01-15T10:30:00Z")
        latest = data_of(query, "/api/v1/gpus/GPU-n")["latest"]
        assert {name: latest[name]["value"] for name in names} == dict(zip(names, range(1, 6), strict=True))
        assert set(names) <= {f["name"] for f in data_of(query, "/api/v1/fields")}
        for path in ("hosts", "clusters", "telemetry?status=stale", "telemetry/latest?format=csv"):
            assert query.get(f"/api/v1/{path}")[0] == 200, path
        for path in ("summary", "missing", "top?field=status", "top?field=first_ms"):
            assert query.get(f"/api/v1/fleet/{path}")[0] == 200, path
