"""A socket while etcd and query are killed under load: whatever is acknowledged is told, or said to be missed."""

from __future__ import annotations

import contextlib
import threading
from datetime import datetime
from types import SimpleNamespace

import websocket

from tests.faults.kills import SETTINGS, all_ready, kill_9, kill_service, until_random_moment
from tests.faults.load import Load
from tests.integration.sockets import connected
from tests.waiting import wait_until

KILLS = 6
UPLOADS_BETWEEN = 20
#: How a connection ends that somebody killed.
_BROKEN = (OSError, ValueError, websocket.WebSocketException)


class Listener:
    """Listens in a thread, and comes back with the last cursor whenever the connection breaks."""

    def __init__(self, url):
        self._function = SimpleNamespace(url=url)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.told, self.missed, self.connections = set(), [], 0
        self._cursor = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._stopping.set()
        self._thread.join(30)

    def _run(self):
        while not self._stopping.wait(0.05):
            with contextlib.suppress(*_BROKEN), connected(self._function) as socket:
                self.connections += 1
                socket.send({"type": "subscribe", **({"cursor": self._cursor} if self._cursor else {})})
                while not self._stopping.is_set():
                    self._take(socket.receive())

    def _take(self, message):
        for record in message.get("data", ()):
            ms = int(datetime.fromisoformat(record["timestamp"]).timestamp() * 1000)
            self.told.add((record["uuid"], ms))
        if message["type"] == "missed":
            self.missed.append(message)
        self._cursor = message.get("cursor", self._cursor)


def test_etcd_and_query_killed_under_a_socket(start, sound_etcd, chance, say, scale):
    up = start("--no-sample", **SETTINGS).wait_ready()
    with Load(up.urls["upload"], "live", threads=2) as load, Listener(up.urls["query"]) as listener:
        wait_until(lambda: listener.told, 30)
        for turn in range(KILLS * scale):
            had = len(load.acknowledged)
            wait_until(lambda had=had: len(load.acknowledged) >= had + UPLOADS_BETWEEN, 60)
            until_random_moment(chance, 0.5)
            if turn % 2:
                kill_service(up, "query", chance)
            else:
                kill_9(up.processes()["etcd"]["pid"])
            wait_until(lambda: all_ready(up), 30)
        load.stop()
        wanted = load.keys()
        # Nothing was away for as long as etcd keeps its history.
        wait_until(lambda: listener.told >= wanted, 60)
        assert listener.missed == []
    say(f"{KILLS * scale} kills: {len(wanted)} records told over {listener.connections} connections")
