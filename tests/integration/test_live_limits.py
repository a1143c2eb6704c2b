"""/ws of the running functions: what is refused, and what bounds a socket."""

from __future__ import annotations

import json

import pytest
import websocket

from tests.functions import running
from tests.integration.sockets import Feed, connected, keys
from tests.integration.tokens import TOKENS, bearer, write_tokens
from tests.waiting import wait_until


@pytest.fixture
def feed(pipeline):
    return Feed(pipeline)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("nonsense", "Invalid JSON"),
        ({"type": "shout"}, "'subscribe', 'unsubscribe', 'ping'"),
        ({"type": "subscribe", "gpu": ["GPU-1"]}, "gpu: Extra inputs"),
        ({"type": "subscribe", "gpus": "GPU-1"}, "gpus: expected a valid array"),
        ({"type": "subscribe", "gpus": [""]}, "gpus.0: String should have at least 1 character"),
        ({"type": "subscribe", "cursor": "next"}, "cursor: String should match"),
        ({"type": "subscribe", "fields": ["gpu_utilisation"]}, "nearest is 'gpu_utilization'"),
        ({"type": "subscribe", "gpus": ["x"] * 1001}, "gpus: Tuple should have at most 1000 items"),
    ],
)
def test_a_message_that_is_not_understood_is_answered(pipeline, message, said):
    with connected(pipeline.query) as socket:
        socket.send(message)
        answer = socket.receive()
        assert answer["type"] == "error"
        assert said in answer["message"]
        assert socket.ask("ping") == {"type": "pong"}


def test_nonsense_twice_is_enough(pipeline):
    with connected(pipeline.query) as socket:
        socket.send("nonsense")
        socket.send("nonsense")
        kinds = [socket.receive()["type"] for _ in range(3)]
        assert kinds == ["error", "error", "closing"]
        with pytest.raises((websocket.WebSocketException, json.JSONDecodeError)):
            socket.receive()


def test_a_message_that_is_too_long_ends_the_socket(pipeline):
    with connected(pipeline.query) as socket:
        socket.send("x" * 200_000)
        with pytest.raises((websocket.WebSocketException, json.JSONDecodeError, OSError)):
            socket.receive()


def test_a_plain_request_is_told_what_this_is(pipeline):
    status, body = pipeline.query.get("/ws")
    assert (status, body["error"]["code"]) == (400, "invalid_input")
    status, body, _ = pipeline.query.call(
        "GET", "/ws", headers={"Connection": "Upgrade", "Upgrade": "websocket"}
    )
    assert (status, body["error"]["code"]) == (400, "invalid_input")


def test_half_the_threads_serve_sockets(pipeline, tmp_path):
    where = {"etcd": pipeline.etcd, "prefix": pipeline.prefix}
    with (
        running("query", tmp_path, **where, THREADS="4") as function,
        connected(function),
        connected(function) as second,
    ):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            connected(function).__enter__()
        assert refused.value.status_code == 503
        assert int(refused.value.resp_headers["retry-after"]) > 0
        assert function.get("/health")[0] == 200
        second.drop()
        wait_until(lambda: _opens(function))


def _opens(function):
    try:
        with connected(function):
            return True
    except websocket.WebSocketBadStatusException:
        return False


def test_without_etcd_there_is_no_socket(tmp_path):
    with running("query", tmp_path, etcd="127.0.0.1:1", prefix="/test") as function:
        assert refusal(function) == 503


def test_it_can_be_switched_off(pipeline, tmp_path):
    where = {"etcd": pipeline.etcd, "prefix": pipeline.prefix}
    with running("query", tmp_path, **where, ENABLE_WEBSOCKET="false") as function:
        assert function.get("/ws")[0] == 404
        assert refusal(function) in (400, 404)


def test_an_instance_that_is_stopped_says_from_where_to_go_on(pipeline, feed, tmp_path):
    where = {"etcd": pipeline.etcd, "prefix": pipeline.prefix}
    with running("query", tmp_path, **where) as function, connected(function) as socket:
        socket.subscribe(gpus=["GPU-s"])
        uploaded = feed.upload("GPU-s", rows=2)
        socket.receive_until(lambda s: len(s.records) == 2)
        function.process.terminate()
        socket.receive_until(lambda s: s.of("closing"))
        assert socket.of("closing")[0]["reason"] == "this instance stops"
        received, cursor = keys(socket), socket.cursor
        assert function.process.wait(10) == 0
    uploaded += feed.upload("GPU-s", rows=2)
    with connected(pipeline.query) as socket:
        socket.subscribe(gpus=["GPU-s"], cursor=cursor)
        socket.receive_until(lambda s: len(s.records) == 2)
        assert received + keys(socket) == uploaded


def test_sockets_end_before_the_request_does_and_go_on_without_loss(pipeline, feed, tmp_path):
    where = {"etcd": pipeline.etcd, "prefix": pipeline.prefix}
    with running("query", tmp_path, **where, WEBSOCKET_TIMEOUT="0.7s") as function:
        uploaded, received, cursor = [], [], None
        for _ in range(4):
            with connected(function) as socket:
                socket.subscribe(gpus=["GPU-t"], **({"cursor": cursor} if cursor else {}))
                for _ in range(3):
                    uploaded += feed.upload("GPU-t", rows=2)
                socket.receive_until(lambda s: s.of("closing"))
                assert socket.of("closing")[0]["reason"] == "timeout"
                received += keys(socket)
                cursor = socket.cursor
            feed.fold()
            uploaded += feed.upload("GPU-t")
        with connected(pipeline.query) as socket:
            socket.subscribe(gpus=["GPU-t"], cursor=cursor)
            socket.receive_until(lambda s: set(received + keys(s)) >= set(uploaded))
            assert not socket.of("missed")


def test_a_reader_that_is_slow_is_told_how_much_it_missed(pipeline, feed):
    with connected(pipeline.query) as slow, connected(pipeline.query) as quick:
        slow.subscribe(hosts=["node-slow"])
        quick.subscribe(gpus=["GPU-quick"])
        rows = 0
        for _ in range(8):
            rows += len(feed.upload("GPU-slow", host="node-slow", rows=20_000))
        # Others are not held up by it.
        feed.upload("GPU-quick", host="node-quick")
        quick.receive_until(lambda s: s.records)

        def is_told(socket):
            return len(socket.records) + sum(m["count"] for m in socket.of("missed")) >= rows

        slow.receive_until(is_told, 30)
        (missed,) = slow.of("missed")
        assert missed["count"] > 0
        assert len(slow.records) + missed["count"] == rows
        after = feed.upload("GPU-slow", host="node-slow")
        slow.receive_until(lambda s: keys(s)[-1:] == after)
    with connected(pipeline.query) as again:
        again.subscribe(hosts=["node-slow"], cursor=missed["from"])
        again.receive_until(lambda s: keys(s)[-1:] == after, 30)
        assert len({*keys(slow), *keys(again)}) == rows + 1


def refusal(function, path="/ws", **how):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connected(function, path, **how).__enter__()
    return refused.value.status_code


def test_a_socket_asks_for_a_token_that_may_read(pipeline, tmp_path):
    where = {"etcd": pipeline.etcd, "prefix": pipeline.prefix}
    tokens = write_tokens(tmp_path / "tokens")
    with running("query", tmp_path, **where, AUTH_TOKENS=str(tokens)) as function:
        assert refusal(function) == 401
        assert refusal(function, "/ws?access_token=wrong") == 401
        assert refusal(function, header=bearer("ingest")) == 403
        for path, headers in (("/ws", bearer("read")), (f"/ws?access_token={TOKENS['read']}", {})):
            with connected(function, path, header=headers) as socket:
                assert socket.ask("ping") == {"type": "pong"}


def test_pages_of_elsewhere_get_no_socket(pipeline):
    assert refusal(pipeline.query, origin="https://evil.example") == 403
    with connected(pipeline.query, origin=pipeline.query.url) as socket:
        assert socket.ask("ping") == {"type": "pong"}


def test_sockets_are_counted_as_requests_are(pipeline):
    with connected(pipeline.query) as socket:
        assert socket.ask("ping") == {"type": "pong"}
    line = b'gpu_telemetry_requests_total{service="query",route="/ws",method="GET",status="101"}'
    wait_until(lambda: line in pipeline.query.call("GET", "/metrics")[1])
