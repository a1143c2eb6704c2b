"""The functions over HTTP: what the issue promises, and what is refused."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.csvs import long, long_row, wide, wide_history, wide_row
from tests.functions import free_port, running


def collect(pipeline):
    status, body, _ = pipeline.collect.call("POST", "/collect")
    assert status == 200
    return body["data"]


def records(pipeline, uuid, query=""):
    status, body = pipeline.query.get(f"/api/v1/gpus/{uuid}/telemetry{query}")
    assert status == 200, body
    assert body["count"] == len(body["data"])
    return body["data"]


def test_a_file_goes_from_upload_to_query(pipeline):
    data = wide([wide_row(host="node-a", uuid="GPU-12345")])
    status, body = pipeline.upload.upload(data, query="?filename=a.csv")
    assert (status, body["success"]) == (200, True)
    report = body["data"]
    assert report["sha256"] == hashlib.sha256(data).hexdigest()
    expected = {
        "filename": "a.csv",
        "bytes": len(data),
        "dialect": "wide",
        "rows": 1,
        "accepted": 1,
        "rejected": 0,
        "gpus": 1,
        "hosts": 1,
        "first_timestamp": "2024-01-15T10:30:00Z",
        "last_timestamp": "2024-01-15T10:30:00Z",
        "messages": 1,
        "warnings": [],
        "errors": [],
    }
    assert {k: report[k] for k in expected} == expected
    assert report["headers"][0] == "timestamp"
    path = f"/api/v1/uploads/{report['upload_id']}"
    assert pipeline.upload.get(path)[1]["data"]["state"] == "queued"
    assert pipeline.upload.get("/api/v1/status")[1]["data"]["queue"]["depth"] == 1
    assert collect(pipeline)["rows"] == 1
    assert pipeline.upload.get(path)[1]["data"]["state"] == "stored"
    gpus = [g for g in pipeline.query.get("/api/v1/gpus")[1]["data"] if g["uuid"] == "GPU-12345"]
    expected = {
        "id": "0",
        "uuid": "GPU-12345",
        "hostname": "node-a",
        "name": "NVIDIA H100 80GB HBM3",
        "device": "nvidia0",
    }
    assert gpus[0].items() >= expected.items()
    assert (
        records(pipeline, "GPU-12345")[0].items()
        >= {
            "timestamp": "2024-01-15T10:30:00Z",
            "gpu_id": "0",
            "uuid": "GPU-12345",
            "hostname": "node-a",
            "gpu_utilization": 85.5,
            "memory_utilization": 70.2,
            "temperature": 65.0,
            "power_draw": 350.5,
        }.items()
    )
    latest = {r["uuid"]: r for r in pipeline.query.get("/api/v1/telemetry/latest")[1]["data"]}
    assert latest["GPU-12345"] == records(pipeline, "GPU-12345")[0]
    host = next(h for h in pipeline.query.get("/api/v1/hosts")[1]["data"] if h["hostname"] == "node-a")
    assert host.items() >= {"hostname": "node-a", "status": "stale", "gpu_count": 1}.items()
    assert gpus[0]["status"] == "stale"
    latest = pipeline.query.get("/api/v1/gpus?as_of=latest")[1]["data"]
    assert "active" in {g["status"] for g in latest}


def test_a_second_upload_of_the_same_file_changes_nothing(pipeline):
    data = long([
        long_row("DCGM_FI_DEV_GPU_UTIL", "100", host="dgx-9"),
        long_row("DCGM_FI_DEV_GPU_TEMP", "63", host="dgx-9", time="2025-07-18T20:42:35Z"),
    ])  # fmt: skip
    answers = []
    for _ in range(2):
        assert pipeline.upload.upload(data)[0] == 200
        collect(pipeline)
        answers.append(records(pipeline, "GPU-dgx-9-0"))
    assert answers[0] == answers[1]
    assert [r["timestamp"] for r in answers[0]] == ["2025-07-18T20:42:34Z", "2025-07-18T20:42:35Z"]
    assert (answers[0][0]["gpu_utilization"], answers[0][0]["temperature"]) == (100.0, None)


def test_a_later_upload_wins_field_by_field(pipeline):
    pipeline.upload.upload(wide([wide_row(uuid="GPU-w", util="1", temp="50")]))
    pipeline.upload.upload(wide([wide_row(uuid="GPU-w", util="2", temp="")]))
    collect(pipeline)
    [record] = records(pipeline, "GPU-w")
    assert (record["gpu_utilization"], record["temperature"]) == (2.0, 50.0)


def test_windows_limits_and_order(pipeline):
    assert pipeline.upload.upload(wide_history(2, 50, host="node-w"))[0] == 200
    collect(pipeline)
    everything = records(pipeline, "GPU-node-w-1")
    times = [r["timestamp"] for r in everything]
    assert len(times) == 50
    assert times == sorted(times)
    window = "?start_time=2024-01-15T10:00:10Z&end_time=2024-01-15T10:00:20Z"
    assert [r["timestamp"] for r in records(pipeline, "GPU-node-w-1", window)] == times[10:20]
    assert records(pipeline, "GPU-node-w-1", window + "&limit=3") == everything[10:13]
    assert records(pipeline, "GPU-node-w-1", "?start_time=2030-01-01") == []
    assert records(pipeline, "1", "?hostname=node-w") == everything
    status, body = pipeline.query.get("/api/v1/telemetry")
    assert (status, body["count"] >= 100) == (200, True)
    status, body = pipeline.query.get("/api/v1/telemetry?limit=100000")
    keys = [(r["uuid"], r["timestamp"]) for r in body["data"]]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) >= 100


def test_an_index_that_several_hosts_have_is_a_conflict_and_an_unknown_one_not_found(pipeline):
    pipeline.upload.upload(
        wide([wide_row(host="node-x", gpu=6), wide_row(host="node-y", gpu=6), wide_row(host="node-x", gpu=5)])
    )
    collect(pipeline)
    status, body = pipeline.query.get("/api/v1/gpus/6/telemetry")
    assert status == 409
    assert {c["hostname"] for c in body["error"]["details"]["candidates"]} >= {"node-x", "node-y"}
    assert len(records(pipeline, "5")) == 1
    for gpu in ("77", "GPU-nope", "GPU-node-x"):
        status, body = pipeline.query.get(f"/api/v1/gpus/{gpu}/telemetry")
        assert (status, body["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "whole number"),
        ("limit=ten", "whole number"),
        ("limit=1" + "0" * 30, "whole number"),
        ("limit=1" + "0" * 5000, "whole number"),
        ("start_time=yesterday", "RFC 3339"),
        ("start_time=2025-01-01&end_time=2024-01-01", "after end_time"),
        ("strat_time=2024-01-01", "unknown parameter"),
        ("limit=1&limit=2", "2 times"),
    ],
)
def test_bad_query_parameters_are_named(pipeline, query, says):
    status, body = pipeline.query.get(f"/api/v1/gpus/GPU-12345/telemetry?{query}")
    assert status == 400
    assert says in body["error"]["message"]


@pytest.mark.parametrize(
    ("data", "content_type", "status", "code"),
    [
        (b"hello", "text/csv", 400, "not_csv"),
        (b"", "text/csv", 400, "not_csv"),
        (b"a,b\n1,2\n", "text/csv", 400, "not_csv"),
        (b"{}", "application/json", 415, "unsupported_media_type"),
        (wide([]), "text/csv", 422, "nothing_accepted"),
        (wide(["bad\n"]), "text/csv", 422, "nothing_accepted"),
        (b"x", "multipart/form-data", 400, "invalid_input"),
        (b"x", "multipart/form-data; boundary=b", 400, "invalid_input"),
    ],
)
def test_what_is_no_upload_is_refused(pipeline, data, content_type, status, code):
    answer, body = pipeline.upload.upload(data, content_type)
    assert (answer, body["success"], body["error"]["code"]) == (status, False, code)
    assert body["error"]["message"]


def test_multipart_is_the_same_as_bare(pipeline):
    data = wide_history(2, 2000, host="node-m")
    status, body, _ = pipeline.upload.call(
        "POST", "/api/v1/csv/upload", fields={"note": "x" * 1000, "file": ("metrics.csv", data, "text/csv")}
    )
    assert status == 200
    report = body["data"]
    assert (report["filename"], report["bytes"], report["accepted"]) == ("metrics.csv", len(data), 4000)
    assert report["sha256"] == hashlib.sha256(data).hexdigest()
    status, body, _ = pipeline.upload.call("POST", "/api/v1/csv/upload", fields={"wrong": ("m.csv", data)})
    assert status == 400
    assert body["error"]["details"]["fields"] == ["wrong"]


def test_bad_rows_are_listed_and_good_ones_accepted(pipeline):
    status, body = pipeline.upload.upload(wide([wide_row(), "bad\n", wide_row(util="x")]))
    report = body["data"]
    assert (status, report["rows"], report["accepted"], report["rejected"]) == (200, 3, 2, 1)
    assert report["errors"] == [
        {"line": 3, "column": None, "value": "bad", "reason": "14 cells expected, as in the header; 1 found"},
        {"line": 4, "column": "gpu_utilization", "value": "x", "reason": "not a number"},
    ]


def test_a_hundred_errors_are_listed_and_all_are_counted(pipeline):
    _, body = pipeline.upload.upload(wide([wide_row(), *["bad\n"] * 500]))
    report = body["data"]
    assert (report["rejected"], len(report["errors"]), report["errors_total"]) == (500, 100, 500)
    assert [e["line"] for e in report["errors"]] == list(range(3, 103))


@pytest.mark.parametrize("name", ["upload", "collect", "query"])
def test_every_function_has_health_and_speaks_json_of_errors(pipeline, name):
    function = getattr(pipeline, name)
    status, body = function.get("/health")
    assert (status, body) == (200, {"status": "healthy", "service": name, "version": body["version"]})
    assert function.get("/health/ready")[0] == 200
    status, body = function.get("/api/v1/nothing/here")
    assert (status, body["error"]["code"]) == (404, "not_found")
    status, body, headers = function.call("DELETE", "/health")
    assert (status, body["error"]["code"], headers["Allow"]) == (405, "method_not_allowed", "GET")


def test_unknown_uploads(pipeline):
    assert pipeline.upload.get("/api/v1/uploads/00000000000a-aaaaaaaaaaaa")[0] == 404
    assert pipeline.upload.get("/api/v1/uploads/..%2Fqueue")[0] in (400, 404)


def test_events_get_an_empty_204(pipeline):
    _, body = pipeline.upload.upload(wide([wide_row(uuid="GPU-event")]))
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "dev.knative.sources.ping", "ce-source": "/x"}
    status, body, _ = pipeline.collect.call("POST", "/", headers=event, body=b'{"kind": "tick"}')
    assert (status, body) == (204, b"")
    assert len(records(pipeline, "GPU-event")) == 1
    structured = {"Content-Type": "application/cloudevents+json"}
    assert pipeline.collect.call("POST", "/", headers=structured, body=b'{"type": "x"}')[0] == 204
    assert pipeline.collect.call("POST", "/", headers=structured, body=b"[]")[0] == 400
    bad = {**event, "ce-type": "io.gpu-telemetry.queue.messages"}
    assert pipeline.collect.call("POST", "/", headers=bad, body=b'{"messages": [{"id": "x"}]}')[0] == 400


def test_a_body_that_breaks_off_is_no_upload(pipeline):
    """The rows that arrived whole may be stored; half a row never is."""
    data = wide([wide_row(uuid="GPU-broken", power="350.5")])
    where = urlsplit(pipeline.upload.url)
    with socket.create_connection((where.hostname, where.port)) as s:
        head = f"POST /api/v1/csv/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: {len(data)}\r\n\r\n"
        s.sendall(head.encode() + data[:-10])
        s.shutdown(socket.SHUT_WR)
        answer = s.recv(65536)
    assert b" 400 " in answer.split(b"\r\n")[0]
    collect(pipeline)
    assert pipeline.query.get("/api/v1/gpus/GPU-broken/telemetry")[0] == 404


def test_chunked_bodies_and_keep_alive(pipeline):
    data = wide_history(1, 100, host="node-c")
    where = urlsplit(pipeline.upload.url)
    connection = http.client.HTTPConnection(where.hostname, where.port)
    for _ in range(2):
        pieces = iter([data[:777], data[777:]])
        connection.request(
            "POST", "/api/v1/csv/upload", pieces, {"Content-Type": "text/csv"}, encode_chunked=True
        )
        assert json.loads(connection.getresponse().read())["data"]["accepted"] == 100
    connection.close()


@pytest.mark.parametrize("tail", [b"zz\r\n", b"5\r\nab", b"", b"0\r\n"])
@pytest.mark.parametrize("path", ["/api/v1/csv/upload", "/nothing"])
def test_chunks_that_are_none_are_no_crash(pipeline, path, tail):
    where = urlsplit(pipeline.upload.url)
    body = wide([wide_row(uuid="GPU-chunk")])
    with socket.create_connection((where.hostname, where.port)) as s:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n"
        s.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(body), body) + tail)
        s.shutdown(socket.SHUT_WR)
        status = s.recv(65536).split(b" ")[1]
    assert status in (b"400", b"404") or (tail == b"0\r\n" and status == b"200")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"messages": 7}',
        b'{"messages": [7]}',
        b'{"messages": [{"id": "ffffffffffff-000000000000-000000", "bytes": 1, "rows": 1, "attempts": 0, "revision": 1}]}',
        b'{"messages": [{"id": "018cd0000000-000000000000-000000", "bytes": 1, "rows": 1, "attempts": 0, "revision": %d}]}'
        % 2**70,
        b'{"messages": [{"id": "018cd0000000-000000000000-000000", "bytes": 1e999, "rows": 1, "attempts": 0, "revision": 1}]}',
        b'{"messages": [{"id": "\\ud800-000000000000-000000", "bytes": 1, "rows": 1, "attempts": 0, "revision": 1}]}',
    ],
)
def test_events_that_are_none_are_refused(pipeline, data):
    headers = {"ce-type": "io.gpu-telemetry.queue.messages"}
    assert pipeline.collect.call("POST", "/", headers=headers, body=data)[0] == 400


def test_a_message_named_twice_is_taken_once(pipeline):
    m = {"id": "018cd0000000-000000000000-000000", "bytes": 1, "rows": 1, "attempts": 0, "revision": 1}
    headers = {"ce-type": "io.gpu-telemetry.queue.messages"}
    body = json.dumps({"messages": [m, m]}).encode()
    assert pipeline.collect.call("POST", "/", headers=headers, body=body)[0] == 204


def test_a_cluster_column_is_kept(pipeline):
    data = b"timestamp,uuid,temperature,cluster\n2024-01-15T10:30:00Z,GPU-c1,1,east\n2024-01-15T10:30:00Z,GPU-c2,1,\n"
    assert pipeline.upload.upload(data)[0] == 200
    assert pipeline.upload.upload(wide([wide_row(uuid="GPU-c3")]))[0] == 200
    collect(pipeline)
    assert [records(pipeline, f"GPU-c{i}")[0]["cluster"] for i in (1, 2, 3)] == ["east", "default", "default"]


def test_the_newer_upload_names_the_host(pipeline):
    for host in ("old-name", "new-name"):
        pipeline.upload.upload(wide([wide_row(uuid=f"GPU-named-{i}", host=host) for i in range(6)]))
        collect(pipeline)
    gpus = pipeline.query.get("/api/v1/gpus")[1]["data"]
    assert {g["hostname"] for g in gpus if g["uuid"].startswith("GPU-named-")} == {"new-name"}


def test_a_very_wordy_header_is_accepted(pipeline):
    heads = ",".join(f"note {i} " + "é" * 900 for i in range(450))
    data = f"timestamp,uuid,temperature,{heads}\n2024-01-15T10:30:00Z,GPU-wordy,1{',x' * 450}\n".encode()
    status, body = pipeline.upload.upload(data)
    assert (status, body["data"]["accepted"]) == (200, 1)
    assert len(body["data"]["warnings"]) == 101


def test_too_large_is_413_also_when_its_length_is_not_said(etcd_endpoint, prefix, tmp_path):
    with running("upload", tmp_path, etcd=etcd_endpoint, prefix=prefix, MAX_UPLOAD_SIZE="10kB") as upload:
        data = wide_history(4, 100)
        assert len(data) > 10_000
        status, body = upload.upload(data)
        assert (status, body["error"]["details"]["max_upload_size"]) == (413, 10_000)
        status, body, _ = upload.call(
            "POST",
            "/api/v1/csv/upload",
            body=iter([data[:9000], data[9000:]]),
            headers={"Content-Type": "text/csv"},
        )
        assert (status, body["error"]["code"]) == (413, "limit_exceeded")


def test_no_etcd_is_503_within_three_seconds(prefix, tmp_path):
    dead = f"127.0.0.1:{free_port()}"
    for name, method, path in [
        ("upload", "POST", "/api/v1/csv/upload"),
        ("query", "GET", "/api/v1/gpus"),
        ("collect", "POST", "/collect"),
    ]:
        with running(name, tmp_path, etcd=dead, prefix=prefix) as function:
            began = time.monotonic()
            status, body, headers = function.call(
                method, path, body=wide([wide_row()]), headers={"Content-Type": "text/csv"}
            )
            assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "unavailable", "1")
            assert time.monotonic() - began < 3
            assert function.get("/health")[0] == 200
            assert function.get("/health/ready")[0] == 503


def test_a_bad_setting_refuses_to_start_with_its_name(etcd_endpoint, prefix, tmp_path):
    bad = running("upload", tmp_path, etcd=etcd_endpoint, prefix=prefix, POLL_INTERVAL="soon")
    with pytest.raises(AssertionError, match="POLL_INTERVAL='soon'"):
        bad.__enter__()
