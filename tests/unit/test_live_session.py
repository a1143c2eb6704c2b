"""A socket that comes back while etcd is away."""

from __future__ import annotations

import json
import threading

from functions.query.live.session import Session
from shared.errors import Transient


class Away:
    """A hub and its news where etcd does not answer a few times."""

    def __init__(self, times):
        self._times = times

    def now(self):
        if self._times:
            self._times -= 1
            raise Transient("etcd is away")
        return 7, 7

    def position(self):
        return 7

    def clear(self, _outbox):
        pass

    def settle(self, _outbox, _subscription, told):
        return told == 7

    def take(self, _outbox, told):
        return None, told


class Wire:
    """Says one thing and keeps what it hears."""

    def __init__(self, *said):
        self._said, self.heard = list(said), []

    def receive(self):
        return self._said.pop(0) if self._said else None

    def send(self, text):
        self.heard.append(json.loads(text))


def test_a_cursor_that_is_ahead_waits_for_etcd():
    wire, away = Wire('{"type": "subscribe", "cursor": "ff"}'), Away(2)
    Session(away, away, tuple, threading.Event()).serve(wire, 2)
    assert [(m["type"], m.get("cursor")) for m in wire.heard] == [
        ("subscribed", "ff"),
        ("missed", "7"),
        ("closing", "7"),
    ]
