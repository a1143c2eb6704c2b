"""/ws of the running functions: who is told what, and that nothing is left out in silence."""

from __future__ import annotations

import pytest

from shared.etcd import Delete, Etcd, Put
from shared.keys import Keys
from tests.functions import running
from tests.integration.sockets import Feed, connected, keys


@pytest.fixture
def feed(pipeline):
    return Feed(pipeline)


def test_new_records_come_as_rest_has_them(pipeline, feed):
    with connected(pipeline.query) as socket:
        socket.subscribe(gpus=["GPU-rest"])
        feed.upload("GPU-rest", value=350.5)
        socket.receive_until(lambda s: s.records)
    _, body = pipeline.query.get("/api/v1/gpus/GPU-rest/telemetry")
    assert socket.records == body["data"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"gpus": ["GPU-w1"]},
        {"hosts": ["node-w1"]},
        {"hosts": ["*-w1"], "models": ["H*"]},
        {"gpus": ["GPU-w1", "GPU-none"], "hosts": ["node-w1"]},
    ],
)
def test_only_what_is_wanted_comes(pipeline, feed, wanted):
    with connected(pipeline.query) as socket, connected(pipeline.query) as all_of_it:
        socket.subscribe(**wanted)
        all_of_it.subscribe()
        other = feed.upload("GPU-w2", host="node-w2")
        own = feed.upload("GPU-w1", host="node-w1")
        socket.receive_until(lambda s: s.records)
        all_of_it.receive_until(lambda s: len(s.records) == 2)
    assert keys(socket) == own
    assert keys(all_of_it) == other + own


def test_records_come_that_have_one_of_the_fields(pipeline, feed):
    with connected(pipeline.query) as socket:
        answer = socket.ask("subscribe", gpus=["GPU-f"], fields=["DCGM_FI_DEV_GPU_TEMP"])
        assert answer["fields"] == ["temperature"]
        feed.upload("GPU-f", columns="power_draw")
        wanted = feed.upload("GPU-f", columns="temperature", value=55)
        socket.receive_until(lambda s: s.records)
    assert keys(socket) == wanted
    assert socket.records[0]["temperature"] == 55


def test_a_socket_may_want_something_else(pipeline, feed):
    with connected(pipeline.query) as socket:
        socket.subscribe(gpus=["GPU-e1"])
        first = feed.upload("GPU-e1")
        socket.receive_until(lambda s: s.records)
        socket.subscribe(gpus=["GPU-e2"])
        feed.upload("GPU-e1")
        second = feed.upload("GPU-e2")
        socket.receive_until(lambda s: len(s.records) == 2)
        assert socket.ask("unsubscribe")["type"] == "unsubscribed"
        feed.upload("GPU-e2")
        assert socket.ask("ping") == {"type": "pong"}
        socket.subscribe(gpus=["GPU-e2"])
        third = feed.upload("GPU-e2")
        socket.receive_until(lambda s: len(s.records) == 3)
    assert keys(socket) == first + second + third


def test_every_instance_tells(pipeline, feed, tmp_path):
    with (
        running("query", tmp_path, etcd=pipeline.etcd, prefix=pipeline.prefix) as other,
        connected(pipeline.query) as here,
        connected(other) as there,
    ):
        here.subscribe(gpus=["GPU-i"])
        there.subscribe(gpus=["GPU-i"])
        uploaded = feed.upload("GPU-i", rows=3)
        for socket in (here, there):
            assert keys(socket.receive_until(lambda s: len(s.records) == 3)) == uploaded


def test_folding_tells_nothing_twice(pipeline, feed):
    with connected(pipeline.query) as socket:
        socket.subscribe(gpus=["GPU-d"])
        uploaded = feed.upload("GPU-d")
        for _ in range(5):
            uploaded += feed.upload("GPU-d")
            feed.fold()
        uploaded += feed.upload("GPU-d")
        socket.receive_until(lambda s: len(s.records) >= len(uploaded))
        assert keys(socket) == uploaded
        assert not socket.of("missed")


def test_a_cursor_brings_what_was_stored_meanwhile_though_it_was_folded(pipeline, feed, tmp_path):
    with connected(pipeline.query) as socket:
        socket.subscribe(gpus=["GPU-c"])
        first = feed.upload("GPU-c")
        socket.receive_until(lambda s: s.records)
    meanwhile = feed.upload("GPU-c") + feed.upload("GPU-c", rows=2)
    feed.fold()
    meanwhile += feed.upload("GPU-c")
    with running("query", tmp_path, etcd=pipeline.etcd, prefix=pipeline.prefix) as other:
        for function in (pipeline.query, other):
            with connected(function) as again:
                again.subscribe(gpus=["GPU-c"], cursor=socket.cursor)
                after = feed.upload("GPU-c")
                again.receive_until(lambda s: s.records and keys(s)[-1] == after[-1])  # noqa: B023
                assert keys(again) == meanwhile + after
                assert not again.of("missed")
            meanwhile += after
    assert first


def test_what_etcd_has_forgotten_is_found_where_it_was_not_folded_and_else_missed(pipeline, feed):
    with connected(pipeline.query) as socket:
        socket.subscribe(gpus=["GPU-h"])
        feed.upload("GPU-h")
        socket.receive_until(lambda s: s.records)
    feed.fold()
    with connected(pipeline.query) as again:
        cursor = again.subscribe(gpus=["GPU-h"]).cursor
    meanwhile = feed.upload("GPU-h")
    forget(pipeline)
    with connected(pipeline.query) as again:
        again.subscribe(gpus=["GPU-h"], cursor=cursor).receive_until(lambda s: s.records)
        assert keys(again) == meanwhile
        assert not again.of("missed")
    feed.fold()
    forget(pipeline)
    with connected(pipeline.query) as again:
        again.subscribe(gpus=["GPU-h"], cursor=cursor)
        later = feed.upload("GPU-h")
        again.receive_until(lambda s: s.records)
        assert keys(again) == later
        (missed,) = again.of("missed")
        assert missed["count"] is None
        assert missed["from"] == cursor


def test_a_cursor_of_another_etcd_is_told_so(pipeline, feed):
    with connected(pipeline.query) as socket:
        socket.subscribe(gpus=["GPU-o"], cursor="ffffffffff").receive_until(lambda s: s.of("missed"))
        uploaded = feed.upload("GPU-o")
        assert keys(socket.receive_until(lambda s: s.records)) == uploaded


def test_what_cannot_be_read_is_missed_and_the_next_is_told(pipeline, feed):
    with connected(pipeline.query) as socket:
        socket.subscribe(gpus=["GPU-u"])
        etcd = Etcd([pipeline.etcd])
        damaged = Keys(pipeline.prefix)
        etcd.txn([], [Put(f"{damaged.index_prefix}nonsense", b"{}"), Put(damaged.store_bell, b"{}")])
        socket.receive_until(lambda s: s.of("missed"))
        etcd.txn([], [Delete(f"{damaged.index_prefix}nonsense"), Put(damaged.store_bell, b"{}")])
        etcd.close()
        uploaded = feed.upload("GPU-u")
        assert keys(socket.receive_until(lambda s: s.records)) == uploaded


def forget(pipeline):
    """Have etcd forget its history."""
    etcd = Etcd([pipeline.etcd])
    etcd.compact(etcd.status().revision)
    etcd.close()
