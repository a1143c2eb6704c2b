"""What every answer carries, what is logged of it, and what nonsense is answered with."""

from __future__ import annotations

import contextlib
import json
import re
import socket

import pytest

from shared.etcd import Put
from shared.http.body import MAX_DRAINED_BYTES
from tests.functions import running
from tests.integration.tokens import TOKENS, bearer, write_tokens
from tests.waiting import wait_until

PAGE = "https://grafana.example"
#: What no answer may hold: traces, paths of the code, names of what we are built with.
TELLING = re.compile(rb"Traceback|File \"|site-packages|\.py\b|werkzeug|/test-[0-9a-f]{12}", re.IGNORECASE)


def access_records(function):
    lines = [json.loads(line) for line in function.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("action") == "access"]


def find_record(function, request_id):
    """The record of a request in the log, which may come after its answer."""

    def find():
        return [r for r in access_records(function) if r["request_id"] == request_id]

    [record] = wait_until(find)
    return record


@pytest.fixture(scope="module")
def browsed(etcd_endpoint, tmp_path_factory):
    """query as pages use it: with tokens, CORS, and health in its log."""
    folder = tmp_path_factory.mktemp("browsed")
    more = {"AUTH_TOKENS": str(write_tokens(folder / "tokens")), "LOG_LEVEL": "debug"}
    more |= {"ENABLE_CORS": "true", "CORS_ORIGINS": f"{PAGE}, http://localhost:3000", "RATE_LIMIT": "0"}
    with running("query", folder, etcd=etcd_endpoint, prefix="/test-of-pages", **more) as query:
        yield query


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/api/v1/telemetry", 200),
        ("GET", "/api/v1/gpus?nonsense=1", 400),
        ("GET", "/nothing", 404),
        ("GET", "/robots.txt", 404),
        ("GET", "//api//v1/gpus", 404),
        ("PUT", "/health", 405),
        ("OPTIONS", "/api/v1/gpus", 204),
    ],
)
def test_every_answer_carries_the_headers(pipeline, method, path, status):
    answer, _, headers = pipeline.query.call(method, path)
    assert answer == status
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] in ("no-store", "private, no-cache")
    assert re.fullmatch("[0-9a-f]{16}", headers["X-Request-Id"])
    assert "Access-Control-Allow-Origin" not in headers


def test_a_page_keeps_a_policy_of_its_own(pipeline):
    status, _, headers = pipeline.query.call("GET", "/swagger/")
    assert status == 200
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("given", ["abc-123_4.5", "a" * 128])
def test_a_request_keeps_the_id_it_came_with(pipeline, given):
    headers = pipeline.query.call("GET", "/health", headers={"X-Request-Id": given})[2]
    assert headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", 'a"b', "ä", "../x", "a{b}"])
def test_an_id_that_is_none_is_replaced(pipeline, given):
    headers = pipeline.query.call("GET", "/health", headers={"X-Request-Id": given})[2]
    assert re.fullmatch("[0-9a-f]{16}", headers["X-Request-Id"])


def test_a_request_is_one_record_in_the_log(browsed):
    headers = {**bearer("read"), "X-Request-Id": "one-record", "X-Forwarded-For": "10.0.0.7"}
    _, body, _ = browsed.call("GET", "/api/v1/gpus/GPU-secret/telemetry?limit=3", headers=headers)
    record = find_record(browsed, "one-record")
    assert record.pop("duration_ms") > 0
    expected = {
        "action": "access",
        "level": "info",
        "method": "GET",
        "route": "/api/v1/gpus/{gpu}/telemetry",
        "status": 404,
        "bytes": len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()) + 1,
        "client": "10.0.0.7",
        "token": "read:2",
        "message": "GET /api/v1/gpus/{gpu}/telemetry 404",
    }
    assert {name: record[name] for name in expected} == expected
    assert not any(token in browsed.log.read_text() for token in TOKENS.values())


def test_probes_and_paths_that_are_none_are_logged_as_what_they_are(browsed):
    browsed.call("GET", "/health", headers={"X-Request-Id": "probe"})
    assert find_record(browsed, "probe")["level"] == "debug"
    browsed.call("GET", "/wp-admin/secret", headers={"X-Request-Id": "stray"})
    record = find_record(browsed, "stray")
    assert (record["route"], record["status"], record["token"]) == ("unmatched", 401, None)


def test_a_streamed_answer_is_logged_at_its_end(pipeline):
    status, body, headers = pipeline.query.call("GET", "/metrics", headers={"X-Request-Id": "streamed"})
    assert (status, "Content-Length" in headers) == (200, False)
    record = find_record(pipeline.query, "streamed")
    assert (record["status"], record["bytes"], record["level"]) == (200, len(body), "info")


def test_requests_are_counted_by_route(pipeline):
    for _ in range(2):
        pipeline.upload.get("/api/v1/uploads/00000000000a-aaaaaaaaaaaa")
    text = pipeline.upload.call("GET", "/metrics")[1].decode()
    of = 'service="upload",route="/api/v1/uploads/{upload}",method="GET",status="404"'
    assert re.search(rf"^gpu_telemetry_requests_total{{{re.escape(of)}}} \d+$", text, re.MULTILINE)


def test_preflights_need_no_token(browsed):
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    status, body, headers = browsed.call("OPTIONS", "/api/v1/gpus", headers={"Origin": PAGE, **asked})
    assert (status, body) == (204, b"")
    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert "Origin" in headers["Vary"]
    assert headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    allowed = headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "if-none-match", "idempotency-key", "traceparent"} <= {*allowed}
    assert int(headers["Access-Control-Max-Age"]) > 0
    assert "Access-Control-Allow-Credentials" not in headers
    status, _, headers = browsed.call(
        "OPTIONS", "/api/v1/gpus", headers={"Origin": "https://e.example", **asked}
    )
    assert (status, "Origin" in headers["Vary"]) == (204, True)
    assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    ("token", "path", "status"),
    [
        ("read", "/api/v1/gpus", 200),
        ("read", "/nothing", 404),
        ("", "/api/v1/gpus", 401),
        ("read", "/robots.txt", 404),
    ],
)
def test_a_page_reads_answers_and_errors_alike(browsed, token, path, status):
    answer, _, headers = browsed.call("GET", path, headers={**bearer(token), "Origin": PAGE})
    assert answer == status
    assert headers["Access-Control-Allow-Origin"] == PAGE
    assert {"ETag", "Link", "Retry-After", "X-Request-Id"} <= {
        *headers["Access-Control-Expose-Headers"].split(", ")
    }
    headers = browsed.call("GET", path, headers={**bearer(token), "Origin": "https://evil.example"})[2]
    assert "Access-Control-Allow-Origin" not in headers
    assert "Origin" in headers["Vary"]


def test_options_tell_what_a_path_takes(pipeline):
    for path, allowed in (("/api/v1/csv/upload", "POST, OPTIONS"), ("/health", "GET, HEAD, OPTIONS")):
        status, _, headers = pipeline.upload.call("OPTIONS", path)
        assert (status, headers["Allow"]) == (204, allowed)
    assert pipeline.upload.call("OPTIONS", "/nothing")[0] == 404


LOCAL = "Host: localhost\r\n"
NONSENSE = {
    "no line": b"\x00\x01\x02\xff\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a version of the future": b"GET / HTTP/9.9\r\n\r\n",
    "a method with NUL": f"G\x00T / HTTP/1.1\r\n{LOCAL}\r\n".encode(),
    "CONNECT": f"CONNECT evil.example:443 HTTP/1.1\r\n{LOCAL}\r\n".encode(),
    "TRACE": f"TRACE /health HTTP/1.1\r\n{LOCAL}X-Secret: 1\r\n\r\n".encode(),
    "a header that is none": f"GET / HTTP/1.1\r\n{LOCAL}nonsense\r\n\r\n".encode(),
    "a huge header": f"GET / HTTP/1.1\r\n{LOCAL}X: {'a' * 200_000}\r\n\r\n".encode(),
    "many headers": f"GET / HTTP/1.1\r\n{LOCAL}{''.join(f'X{i}: 1{chr(13)}{chr(10)}' for i in range(500))}\r\n".encode(),
    "a huge path": f"GET /{'a' * 200_000} HTTP/1.1\r\n{LOCAL}\r\n".encode(),
    "NUL in a path": f"GET /api/v1/gpus/%00/telemetry HTTP/1.1\r\n{LOCAL}\r\n".encode(),
    "dots in a path": f"GET /%2e%2e/..%2f%2e%2e/etc/passwd HTTP/1.1\r\n{LOCAL}\r\n".encode(),
    "bytes in a path": f"GET /%ff%fe HTTP/1.1\r\n{LOCAL}\r\n".encode(),
    "a header in a path": f"GET /a%0d%0aX-Evil:%201 HTTP/1.1\r\n{LOCAL}\r\n".encode(),
    "a star": f"OPTIONS * HTTP/1.1\r\n{LOCAL}\r\n".encode(),
    "an upgrade": f"GET /health HTTP/1.1\r\n{LOCAL}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
    "a length that is none": f"POST / HTTP/1.1\r\n{LOCAL}Content-Length: x\r\n\r\n".encode(),
    "a negative length": f"POST / HTTP/1.1\r\n{LOCAL}Content-Length: -1\r\n\r\n".encode(),
    "two lengths": f"POST / HTTP/1.1\r\n{LOCAL}Content-Length: 1\r\nContent-Length: 2\r\n\r\na".encode(),
    "length and chunks": f"POST / HTTP/1.1\r\n{LOCAL}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
    "two hosts": f"GET / HTTP/1.1\r\n{LOCAL}Host: evil.example\r\n\r\n".encode(),
    "a host that is none": b"GET /api/v1/gpus HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "an origin that is none": f"POST / HTTP/1.1\r\n{LOCAL}Origin: http://[\r\nContent-Length: 0\r\n\r\n".encode(),
    "headers that are none": LOCAL.join(("GET /api/v1/gpus HTTP/1.1\r\n", 'Cookie: ;;;=\r\nAuthorization: Bearer \xff\xfe\r\nAccept: ;q=x,,,\r\nIf-None-Match: "\xff\r\nRange: bytes=a-b\r\nAccept-Encoding: ;;;q\r\nOrigin: http://[\r\nX-Forwarded-For: ,,,\r\nForwarded: for="\r\n\r\n')).encode("latin-1"),
    "parameters that are none": f"GET /api/v1/gpus?%ff=%00&a[]=1&=&&;; HTTP/1.1\r\n{LOCAL}\r\n".encode(),
}  # fmt: skip


def ask_raw(function, data):
    """Send bytes and read to the end."""
    got = b""
    port = int(function.url.rpartition(":")[2])
    # Who is refused before he has said all is cut off.
    cut = contextlib.suppress(ConnectionResetError, BrokenPipeError)
    with cut, socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while part := s.recv(65536):
            got += part
    return got


@pytest.mark.parametrize("name", ["upload", "query"])
@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_refused_and_told_nothing(pipeline, nonsense, name):
    function = getattr(pipeline, name)
    got = ask_raw(function, NONSENSE[nonsense])
    head, _, body = got.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if head else None
    assert status is None or 400 <= status < 500, got[:500]
    assert not TELLING.search(got), got[:500]
    assert b"X-Evil" not in head
    assert len(body) < 5000
    assert function.get("/health")[0] == 200
    assert '"action": "crash"' not in function.log.read_text()


@pytest.mark.parametrize("how", ["HEAD", "GET"])
def test_a_body_that_nobody_wants_is_not_kept(etcd_endpoint, tmp_path, how):
    """Whoever may send what he likes where nothing is read: also to /health, and without a token."""
    megabyte, most = b"x" * 1024 * 1024, MAX_DRAINED_BYTES // 1024**2
    kind = {"HEAD": "Content-Length: 99999999999", "GET": "Transfer-Encoding: chunked"}[how]
    piece = megabyte if how == "HEAD" else b"100000\r\n" + megabyte + b"\r\n"
    with running("query", tmp_path, etcd=etcd_endpoint, prefix="/test-of-bodies") as query:
        port = int(query.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
            s.sendall(f"{how} /health HTTP/1.1\r\n{LOCAL}{kind}\r\n\r\n".encode())
            with pytest.raises(OSError):  # noqa: PT011  (a reset, or a broken pipe)
                s.sendall(piece * 4 * most)
        assert query.get("/health")[0] == 200


def test_what_is_broken_within_is_not_told(etcd, etcd_endpoint, prefix, keys, tmp_path):
    """An entry that cannot be read stands in the store: its key is in the log, in no answer."""
    etcd.txn([], [Put(f"{keys.index_prefix}20240115/nonsense/GPU-secret", b"nonsense")])
    with running("query", tmp_path, etcd=etcd_endpoint, prefix=prefix) as query:
        for path in (
            "/api/v1/gpus",
            "/api/v1/telemetry",
            "/api/v1/gpus/GPU-a/telemetry",
            "/api/v1/export/plan",
        ):
            status, body, headers = query.call("GET", path)
            assert (status, body["error"]["code"]) == (500, "corrupt")
            assert "GPU-secret" not in json.dumps(body)
            assert prefix not in json.dumps(body)
            log = query.log.read_text()
            assert f"not an index key: '{keys.index_prefix}20240115/nonsense/GPU-secret'" in log
            assert headers["X-Request-Id"] in log
        status, body, _ = query.call("POST", "/graphql", json={"query": "{ hosts { hostname } }"})
        assert (status, body["error"]["code"]) == (500, "corrupt")
        assert "GPU-secret" not in json.dumps(body)
