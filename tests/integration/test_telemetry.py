"""Records over HTTP: fields, order, pages, formats, what has not changed, and limits."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
import urllib3

from local_runtime.cli import run
from shared.records import KEY, LABELS
from tests.csvs import long, long_row, wide, wide_history, wide_row
from tests.functions import running

ACCEPT = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}


def store(pipeline, data):
    status, body = pipeline.upload.upload(data)
    assert status == 200, body
    assert body["data"]["warnings"] == []
    assert pipeline.collect.call("POST", "/collect")[0] == 200
    return body["data"]


def ask(function, path):
    """GET records; of fields that are not fixed, and null in all records of a chunk, nothing is said there."""
    status, body = function.get(path)
    assert status == 200, body
    assert body["count"] == len(body["data"])
    return {**body, "data": [Record(r) for r in body["data"]]}


class Record(dict):
    """A record that equals another one with the same values, whether or not its nulls are written out."""

    def __eq__(self, other):
        return {k: v for k, v in self.items() if v is not None} == {
            k: v for k, v in other.items() if v is not None
        }

    def __hash__(self):
        return hash((self["uuid"], self["timestamp"]))


def pages(function, path, limit):
    """Follow `next` to its end; the records of all pages."""
    found, cursor = [], ""
    while True:
        body = ask(function, f"{path}limit={limit}{cursor}")
        assert len(body["data"]) <= limit
        found += body["data"]
        if body["next"] is None:
            return found
        cursor = f"&cursor={body['next']}"


@pytest.fixture(scope="module")
def fleet(pipeline):
    """Three GPUs with 40 records each, in two uploads; one with a field of its own, and milliseconds."""
    store(pipeline, wide_history(3, 20, host="node-t"))
    store(pipeline, wide_history(3, 20, host="node-t", start=20))
    rows = [f"2024-01-15T10:00:{s:02d}.{ms:03d}Z,GPU-own,{s},{ms}\n" for s, ms in ((1, 5), (2, 0), (3, 999))]
    store(pipeline, ("timestamp,uuid,temperature,My Own-Metric\n" + "".join(rows)).encode())
    return pipeline


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


def fetch(function, path, **headers):
    status, body, answered = function.call("GET", path, headers=headers)
    assert status == 200, body
    return body, answered


@pytest.mark.parametrize("name", ["ndjson", "csv", "parquet"])
@pytest.mark.parametrize("path", ["gpus/GPU-own/telemetry?", "telemetry?limit=10000&", "telemetry/latest?"])
def test_each_format_has_the_same_records(fleet, name, path):
    expected = ask(fleet.query, f"/api/v1/{path}")["data"]
    by_name, headers = fetch(fleet.query, f"/api/v1/{path}format={name}", Accept="text/html")
    by_accept, _ = fetch(fleet.query, f"/api/v1/{path}", Accept=f"text/html, {ACCEPT[name]};q=0.5")
    assert by_name == by_accept
    assert headers["Content-Type"].partition(";")[0] == ACCEPT[name]
    assert "Accept" in headers["Vary"]
    found = read(name, by_name)
    assert len(found) == len(expected) > 0
    assert expected == found


def read(name, body):
    if name == "ndjson":
        return [json.loads(line) for line in body.splitlines()]
    if name == "csv":
        rows = csv.DictReader(io.StringIO(body.decode()))
        return [{k: number(k, v) for k, v in row.items()} for row in rows]
    rows = pq.read_table(io.BytesIO(body)).to_pylist()
    return [{**row, "timestamp": format_time(row["timestamp"])} for row in rows]


TEXTS = {*KEY, *LABELS}


def number(name, cell):
    if cell == "":
        return None
    return cell if name in TEXTS else float(cell)


def format_time(time):
    text = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text.replace(".000Z", "Z")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "json"),
        ("application/json; charset=utf-8", "json"),
        ("text/*", "csv"),
        ("TEXT/CSV;header=present", "csv"),
        ("application/json;q=0.1, text/csv;q=0.2", "csv"),
        ("application/json;q=0, */*", "ndjson"),
        ("application/vnd.apache.parquet", "parquet"),
    ],
)
def test_accept_chooses(fleet, accept, expected):
    _, headers = fetch(fleet.query, "/api/v1/gpus/GPU-own/telemetry", Accept=accept)
    assert headers["Content-Type"].partition(";")[0] == ACCEPT[expected]


@pytest.mark.parametrize("path", ["gpus/GPU-own/telemetry", "telemetry", "telemetry/latest"])
def test_what_nobody_can_serve_is_406_and_says_what_can_be(fleet, path):
    status, body, _ = fleet.query.call("GET", f"/api/v1/{path}", headers={"Accept": "text/html, image/*"})
    assert (status, body["error"]["code"]) == (406, "not_acceptable")
    assert set(body["error"]["details"]["types"]) == set(ACCEPT.values())
    assert fleet.query.get(f"/api/v1/{path}?format=xml")[0] == 400


def test_csv_goes_back_in_as_the_same_records(pipeline, etcd_endpoint, prefix, tmp_path):
    """Field by field: milliseconds, labels, unknown metrics, those that are called like something else, nulls."""
    head = "timestamp,uuid,hostname,gpu_id,modelname,pod,cluster,temperature,power usage,Date.,time_ms,gpu_i_id\n"
    rows = [
        '2024-01-15T10:00:00.007Z,GPU-rt-1,node-rt,0,"A, ""quoted"" model",pod-1,east,1.5,0.1,,1e-7,\n',
        "2024-01-15T10:00:01Z,GPU-rt-1,node-rt,0,,,east,,123456789.125,4,,\n",
        "2024-01-15T10:00:01.999Z,GPU-rt-2,,1,Ünïcode,pod-2,,33,,-5,1e300,7\n",
    ]
    store(pipeline, (head + "".join(rows)).encode())
    store(pipeline, long([long_row("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "123457", host="rt", pod="p,q")]))
    with running("upload", tmp_path, etcd=etcd_endpoint, prefix=prefix) as upload, \
         running("collect", tmp_path, etcd=etcd_endpoint, prefix=prefix) as collect, \
         running("query", tmp_path, etcd=etcd_endpoint, prefix=prefix) as query:  # fmt: skip
        for uuid in ("GPU-rt-1", "GPU-rt-2:gi-7", "GPU-rt-0"):
            path = f"/api/v1/gpus/{uuid}/telemetry"
            body, _ = fetch(pipeline.query, f"{path}?format=csv")
            status, report = upload.upload(body)
            assert (status, report["data"]["warnings"], report["data"]["rejected"]) == (200, [], 0)
            assert report["data"]["values_nulled"] == 0
            assert collect.call("POST", "/collect")[0] == 200
            assert ask(query, path)["data"] == ask(pipeline.query, path)["data"]
        whole, _ = fetch(query, "/api/v1/telemetry?format=csv")
        assert b"\n2024-01-15T10:00:00.007Z,0,GPU-rt-1,node-rt,," in whole
        assert b'"A, ""quoted"" model"' in whole


@pytest.mark.parametrize("name", ["ndjson", "csv", "parquet"])
def test_without_an_envelope_the_next_page_is_in_link(fleet, name):
    expected = ask(fleet.query, "/api/v1/telemetry?limit=10000")["data"]
    path, found = f"/api/v1/telemetry?limit=100&format={name}", []
    while path is not None:
        body, headers = fetch(fleet.query, path)
        found += [(r["uuid"], r["timestamp"]) for r in read(name, body)]
        link = headers.get("Link")
        path = None if link is None else link.removeprefix("<").removesuffix('>; rel="next"')
    assert found == [(r["uuid"], r["timestamp"]) for r in expected]


def test_an_empty_answer_has_its_form_in_every_format(fleet):
    path = "/api/v1/gpus/GPU-own/telemetry?start_time=2030-01-01&format="
    assert fleet.query.get(path + "json")[1] == {"success": True, "data": [], "count": 0, "next": None}
    assert fetch(fleet.query, path + "ndjson")[0] == b""
    assert fetch(fleet.query, path + "csv")[0].startswith(b"timestamp,gpu_id,uuid,hostname,gpu_utilization,")
    assert pq.read_table(io.BytesIO(fetch(fleet.query, path + "parquet")[0])).num_rows == 0
    for name in ACCEPT:
        assert fleet.query.call("GET", f"/api/v1/gpus/GPU-nope/telemetry?format={name}")[0] == 404


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


@pytest.fixture(scope="module")
def limited(fleet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("limited")
    limits = {"MAX_QUERY_ROWS": "15", "MAX_QUERY_RANGE": "1h"}
    with running("query", folder, etcd=fleet.etcd, prefix=fleet.prefix, **limits) as query:
        yield query


def test_more_records_than_allowed_come_with_a_cursor(fleet, limited):
    path = "/api/v1/gpus/GPU-node-t-1/telemetry?"
    whole = ask(fleet.query, path)["data"]
    body = ask(limited, path)
    assert (body["data"], body["next"] is None) == (whole[:15], False)
    assert pages(limited, path, 1000) == whole[:15] + whole[15:]
    status, body = limited.get(path + "limit=16&format=csv")
    assert (status, body["error"]["details"]["max_query_rows"]) == (413, 15)
    body, headers = fetch(limited, path + "format=ndjson")
    assert len(body.splitlines()) == 15
    assert "cursor=" in headers["Link"]


@pytest.mark.parametrize(("limit", "expected"), [((), 40), (("--limit", "31"), 31), (("--limit", "15"), 15)])
def test_the_command_goes_on_where_an_answer_ends(limited, capsys, limit, expected):
    assert run(["telemetry", "GPU-node-t-1", "--url", limited.url, *limit]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{expected} records"
    assert len({line.split()[0] for line in lines[2:-1]}) == expected


def test_a_window_that_is_too_long_is_refused(limited):
    path = "/api/v1/gpus/GPU-node-t-1/telemetry?"
    assert ask(limited, path + "start_time=2024-01-15T10:00:00Z&end_time=2024-01-15T11:00:00Z")["data"]
    status, body = limited.get(path + "start_time=2024-01-15T10:00:00Z&end_time=2024-01-15T11:00:01Z")
    assert (status, body["error"]["details"]["max_query_range_s"]) == (413, 3600)
    assert "MAX_QUERY_RANGE" in body["error"]["message"]
    # Where it is open, what is stored counts.
    assert ask(limited, path)["data"]
    assert limited.get(path + "start_time=2020-01-01")[0] == 413
    assert limited.get("/api/v1/telemetry?end_time=2030-01-01")[0] == 413


# -- compressed


@pytest.mark.parametrize("name", ["json", "ndjson", "csv"])
@pytest.mark.parametrize("rows", [100, 6000])
def test_gzip_is_the_same_answer_smaller(pipeline, name, rows):
    """Short ones are made whole, long ones are streamed."""
    store(pipeline, wide_history(1, rows, host=f"node-{name}-{rows}"))
    path = f"/api/v1/gpus/GPU-node-{name}-{rows}-0/telemetry?format={name}"
    plain, said = fetch(pipeline.query, path)
    assert "Content-Encoding" not in said
    found, said = fetch(pipeline.query, path, **{"Accept-Encoding": "gzip"})
    assert said["Content-Encoding"] == "gzip"
    assert {"Accept", "Accept-Encoding"} <= {word.strip() for word in said["Vary"].split(",")}
    assert found == plain
    raw = urllib3.request(
        "GET", pipeline.query.url + path, headers={"Accept-Encoding": "gzip"}, decode_content=False
    ).data
    assert len(raw) < len(urllib3.request("GET", pipeline.query.url + path).data) / 5


def test_parquet_is_not_compressed_again(fleet):
    _, headers = fetch(fleet.query, "/api/v1/telemetry?format=parquet", **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in headers


# -- long answers


@pytest.fixture(scope="module")
def long_history(pipeline):
    """One GPU with so many records that they are read in several chunks, in segments that overlap."""
    for start, instants in ((0, 25_000), (25_000, 25_000), (12_500, 25_000)):
        store(pipeline, wide_history(1, instants, start=start, host="node-long"))
    return pipeline


@pytest.fixture(scope="module")
def hurried(long_history, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hurried")
    with running(
        "query", folder, etcd=long_history.etcd, prefix=long_history.prefix, MAX_QUERY_TIME="1ms"
    ) as q:
        yield q


@pytest.mark.parametrize(
    "path", ["/api/v1/gpus/GPU-node-long-0/telemetry?", "/api/v1/telemetry?hostname=node-long&"]
)
@pytest.mark.parametrize("more", ["", "order=desc&", "step=7s&agg=count&", "step=7s&agg=count&order=desc&"])
def test_an_answer_that_takes_too_long_goes_on_with_a_cursor(long_history, hurried, path, more):
    path += more + "fields=power_draw&"
    whole = ask(long_history.query, f"{path}limit=100000")["data"]
    assert len(whole) == (50_000 // 7 + 2 if "step" in more else 50_000)
    first = ask(hurried, f"{path}limit=100000")
    assert 0 < first["count"] < len(whole)
    assert first["next"] is not None
    assert pages(hurried, path, 100_000) == whole


def test_without_an_envelope_it_is_said_or_breaks_off(hurried):
    path = "/api/v1/gpus/GPU-node-long-0/telemetry?fields=power_draw&format="
    body, headers = fetch(hurried, path + "csv&limit=100000")
    assert 0 < len(body.splitlines()) < 50_000
    assert "cursor=" in headers["Link"]
    # So short that it is known before the first byte, and so long that it is not.
    status, body = hurried.get(path + "parquet")
    assert (status, body["error"]["code"]) == (413, "limit_exceeded")
    for name in ("ndjson", "csv"):
        answer = urllib3.request("GET", hurried.url + path + name, preload_content=False, retries=False)
        assert answer.status == 200
        with pytest.raises(urllib3.exceptions.HTTPError):
            answer.read()
