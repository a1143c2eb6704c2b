"""How long a connection may stand still: with the body of a request, and with an answer."""

from __future__ import annotations

import socket

import pytest
from flask import Request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.test import EnvironBuilder

from shared.http import body
from shared.http import connection as own


@pytest.fixture
def connection(monkeypatch):
    """A client's end, and a request on the other one; nobody waits longer than a moment."""
    monkeypatch.setattr(own, "PATIENCE_S", 1)
    client, server = socket.socketpair()
    with client, server, server.makefile("rb", buffering=0) as stream:
        environ = EnvironBuilder(method="POST").get_environ()
        environ |= {"wsgi.input": stream, "CONTENT_LENGTH": "10", "gunicorn.socket": server}
        yield client, server, Request(environ)


def test_a_body_that_stops_coming_is_given_up(connection):
    client, _, request = connection
    client.sendall(b"half")
    own.limit_patience(request)
    assert body.read_body(request, 4) == b"half"
    with pytest.raises(ClientDisconnected):
        body.read_body(request, 10)


def test_a_reader_who_takes_nothing_is_given_up(connection):
    _, server, request = connection
    own.limit_patience(request)
    with pytest.raises(BlockingIOError):
        server.sendall(b"x" * 64 * 1024 * 1024)


def test_a_connection_that_is_closed_is_no_trouble(connection):
    _, server, request = connection
    server.close()
    own.limit_patience(request)
