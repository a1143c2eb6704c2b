"""WebSocket clients of the running functions, and records for them, for tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from datetime import UTC, datetime

import websocket


class Socket:
    """One client; keeps what it was told, in order."""

    def __init__(self, function, path="/ws", **how):
        host, _, port = function.url.removeprefix("http://").partition(":")
        # One of our own: a connection that is refused would be left open.
        self._wire = wire = socket.create_connection((host, int(port)), timeout=20)
        try:
            self._socket = websocket.create_connection(
                f"ws://{host}:{port}{path}", socket=wire, skip_utf8_validation=True, **how
            )
        except BaseException:
            wire.close()
            raise
        self.messages, self.records = [], []

    def send(self, message):
        self._socket.send(json.dumps(message) if isinstance(message, dict) else message)

    def ask(self, kind, **members):
        """Send a message and return what comes next."""
        self.send({"type": kind, **members})
        return self.receive()

    def subscribe(self, **members):
        answer = self.ask("subscribe", **members)
        assert answer["type"] == "subscribed", answer
        return self

    def receive(self):
        message = json.loads(self._socket.recv())
        self.messages.append(message)
        self.records += message["data"] if message["type"] == "records" else []
        return message

    def receive_until(self, condition, timeout_s=15.0):
        """Receive until a condition holds of the socket."""
        deadline = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < deadline, self.messages[-3:]
            self.receive()
        return self

    def of(self, kind):
        return [m for m in self.messages if m["type"] == kind]

    @property
    def cursor(self):
        return next(m["cursor"] for m in reversed(self.messages) if "cursor" in m)

    def drop(self):
        """Break the connection without a word."""
        self._wire.close()

    def close(self):
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self._socket.close()
        self._wire.close()


@contextlib.contextmanager
def connected(function, path="/ws", **how):
    client = Socket(function, path, **how)
    try:
        yield client
    finally:
        client.close()


_number = itertools.count()


class Feed:
    """Uploads records that differ, and has them stored."""

    def __init__(self, pipeline):
        self._pipeline = pipeline

    def upload(self, *gpus, columns="power_draw", host="node-a", value=1, rows=1, move=True):
        """Upload records of GPUs; returns their (uuid, timestamp)."""
        keys = [(gpu, f"{1_700_000_000_000 + next(_number)}") for gpu in gpus for _ in range(rows)]
        lines = [f"{_time(int(ms))},{gpu},{host},H100,{value}\n" for gpu, ms in keys]
        text = f"timestamp,uuid,hostname,modelname,{columns}\n" + "".join(lines)
        status, body = self._pipeline.upload.upload(text)
        assert status == 200, body
        if move:
            self.move()
        return [(gpu, _time(int(ms))) for gpu, ms in keys]

    def move(self):
        assert self._pipeline.collect.call("POST", "/collect")[0] == 200

    def fold(self):
        """Have everything fresh folded, as a tick does."""
        assert self._pipeline.collect.call("POST", "/")[0] == 204


def _time(ms):
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text.replace(".000Z", "Z")


def keys(socket):
    return [(r["uuid"], r["timestamp"]) for r in socket.records]
