"""A request as it is logged and counted: also where its answer is streamed, breaks off or is not wanted."""

from __future__ import annotations

import json
import logging
import socket

import pytest
from flask import Request, Response
from werkzeug.test import EnvironBuilder

from shared.errors import Transient
from shared.http.counts import BUCKETS_S, Counts
from shared.http.exchange import Exchange
from shared.logs import JsonFormatter, request_id


def exchange(counts, method="GET", **headers):
    return Exchange(Request(EnvironBuilder(method=method, headers=headers).get_environ()), counts)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog):
    caplog.set_level(logging.DEBUG)


def parts(*, fail=False):
    yield b"one"
    if fail:
        raise Transient("etcd is away")
    yield b"two"


def test_a_streamed_answer_ends_when_all_of_it_was_sent(caplog):
    counts = Counts()
    asked, response = exchange(counts), Response(parts())
    asked.finish(response)
    assert not caplog.records
    assert request_id.get() == asked.id
    assert b"".join(response.response) == b"onetwo"
    response.close()
    response.close()
    [record] = caplog.records
    assert (record.levelname, record.status, record.bytes, record.getMessage()) == (
        "INFO",
        200,
        6,
        "GET unmatched 200",
    )
    assert [c.count for c in counts.snapshot()] == [1]
    assert request_id.get() == ""


def test_one_that_breaks_off_is_worth_attention(caplog):
    asked, response = exchange(Counts()), Response(parts(fail=True))
    asked.finish(response)
    with pytest.raises(Transient):
        list(response.response)
    response.close()
    [record] = caplog.records
    assert (record.levelname, record.bytes) == ("WARNING", 3)
    assert record.getMessage().endswith("broke off: Transient: etcd is away")


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_one_that_breaks_off_is_never_taken_for_whole(protocol):
    """In HTTP/1.0 the end of the connection is that of the answer: it has to be a reset."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client, (server, _) = socket.create_connection(listening.getsockname()), listening.accept()
    with client, server:
        client.settimeout(5)
        environ = EnvironBuilder().get_environ() | {"gunicorn.socket": server, "SERVER_PROTOCOL": protocol}
        response = Response(parts(fail=True))
        Exchange(Request(environ), Counts()).finish(response)
        with pytest.raises(Transient):
            list(response.response)
        response.close()
        if protocol == "HTTP/1.0":
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            server.sendall(b"!")  # its chunks are the server's business
            assert client.recv(1) == b"!"


def test_a_client_that_leaves_is_not_and_what_was_to_come_is_closed(caplog):
    closed = []

    def parts():
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    asked, response = exchange(Counts()), Response(parts())
    asked.finish(response)
    next(iter(response.response))
    response.close()
    [record] = caplog.records
    assert (record.levelname, record.bytes, closed) == ("INFO", 3, [True])
    assert record.getMessage().endswith("broke off: the client left")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
def test_an_answer_without_a_body_is_whole(caplog, method, status):
    asked, response = exchange(Counts(), method), Response(parts(), status)
    asked.finish(response)
    response.close()
    assert caplog.records[0].getMessage() == f"{method} unmatched {status}"


def test_what_is_logged_meanwhile_carries_the_id():
    asked = exchange(Counts(), **{"X-Request-Id": "abc"})
    record = logging.makeLogRecord({"msg": "x"})
    assert json.loads(JsonFormatter().format(record))["request_id"] == asked.id == "abc"
    asked.finish(Response(b""))
    assert "request_id" not in json.loads(JsonFormatter().format(record))


def test_counts_are_by_route_method_and_status_in_buckets():
    counts = Counts()
    for seconds in (0.0005, 0.001, 0.004, 20.0):
        counts.add("/a", "GET", 200, seconds)
    counts.add("/a", "GET", 404, 1.0)
    first, second = counts.snapshot()
    assert (first.route, first.method, first.status, first.count) == ("/a", "GET", 200, 4)
    assert first.seconds == pytest.approx(20.0055)
    assert [bound for bound, _ in first.within] == [*BUCKETS_S]
    assert [count for _, count in first.within] == [2, 2, *[3] * (len(BUCKETS_S) - 2)]
    assert (second.status, second.count) == (404, 1)


def test_methods_that_are_none_are_counted_as_one():
    counts = Counts()
    for method in ("PURGE", "BREW"):
        exchange(counts, method).finish(Response(b"", 405))
    assert [(c.method, c.count) for c in counts.snapshot()] == [("other", 2)]
