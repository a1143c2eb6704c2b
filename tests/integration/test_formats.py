"""Records over HTTP in each of their formats, compressed or not."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
import urllib3

from shared.records import KEY, LABELS
from tests.csvs import long, long_row, wide_history
from tests.functions import running
from tests.integration.asking import ask, fetch, store

ACCEPT = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
TEXTS = {*KEY, *LABELS}


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
