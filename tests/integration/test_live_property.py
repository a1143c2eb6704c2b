"""Whatever is stored is told to a socket, or said to be missed: sessions, hub and news on a real etcd.

The wire alone is not one: a session talks over two lists here, which can be paused and broken at will.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import threading
from collections import deque

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from functions.query.live import outbox, session
from functions.query.live.hub import Hub
from functions.query.live.session import Session
from shared.keys import Keys
from shared.queue import Queue
from shared.store.news import News
from shared.store.read import Store
from tests.integration.stored import Pipeline, rows
from tests.waiting import wait_until

ROWS = st.integers(1, 80)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["upload", "leave", "leave for long"]), ROWS),
        st.tuples(st.just("stall"), ROWS, ROWS, ROWS, ROWS),
        st.tuples(st.just("break within"), ROWS, st.integers(1, 4)),
        st.sampled_from([("fold",), ("forget",), ("break",), ("subscribe anew",)]),
    ),
    min_size=3,
    max_size=12,
)


class Wire:
    """A connection; `pause` holds up what is sent."""

    def __init__(self, wake):
        self._wake = wake
        self._inbox = deque()
        self._flows = threading.Event()
        self._flows.set()
        self._left = 0
        self.is_stuck = self.is_broken = False
        self.messages = []

    def send(self, text):
        if not self._left:
            self.is_stuck = not self._flows.is_set()
            self._flows.wait()
        self._left = max(self._left - 1, 0)
        if self.is_broken:
            raise OSError
        self.messages.append(json.loads(text))

    def receive(self):
        if self.is_broken:
            raise OSError
        return self._inbox.popleft() if self._inbox else None

    def say(self, **message):
        self._inbox.append(json.dumps(message))
        self._wake.set()

    def pause(self, after=0):
        self._left = after
        self._flows.clear()

    def go_on(self):
        self._flows.set()

    def break_off(self):
        self.is_broken = True
        self._flows.set()
        self._wake.set()


class Client:
    """Somebody who comes back with the last cursor whenever the connection breaks."""

    def __init__(self, hub, news):
        self._hub, self._news = hub, news
        self.told = []
        self._connect(None)

    def _connect(self, cursor):
        wake = threading.Event()
        one = Session(self._hub, self._news, tuple, wake)
        self.wire = wire = Wire(wake)
        self._hub.join(one.outbox)
        self.thread = threading.Thread(target=self._serve, args=(one, wire), daemon=True)
        self.thread.start()
        self.subscribe(cursor)

    def _serve(self, one, wire):
        with contextlib.suppress(OSError):
            one.serve(wire, 60)
        self._hub.leave(one.outbox)

    def subscribe(self, cursor=None):
        self.wire.go_on()
        before = len(self.wire.messages)
        self.wire.say(type="subscribe", gpus=["GPU-a"], **({"cursor": cursor} if cursor else {}))
        wait_until(lambda: "subscribed" in {m["type"] for m in self.wire.messages[before:]}, every_s=0.002)

    def cursor(self):
        return next(m["cursor"] for m in reversed(self.wire.messages) if "cursor" in m)

    def leave(self):
        self.wire.break_off()
        self.thread.join(10)
        self.told += self.wire.messages

    def come_back(self, meanwhile=()):
        self.leave()
        for do in meanwhile:
            do()
        self._connect(self.cursor())

    def everything(self):
        return self.told + self.wire.messages


def received(messages):
    return {(r["uuid"], r["power_draw"]) for m in messages if m["type"] == "records" for r in m["data"]}


class World:
    """A store, and a client that is told of GPU-a."""

    def __init__(self, etcd):
        keys = Keys(f"/test-{secrets.token_hex(6)}")
        self._etcd = etcd
        self._pipeline = Pipeline(etcd, keys, Queue(etcd, keys))
        self._news = News(etcd, keys, Store(etcd, keys))
        self.client = Client(Hub(lambda: self._news), self._news)
        #: The revision at which each record of GPU-a was stored.
        self.stored = {}

    def upload(self, count):
        numbers = range(len(self.stored), len(self.stored) + count)
        table = rows(["GPU-a"], numbers, lambda _, second: float(second))
        self._pipeline.upload(rows(["GPU-b"], [0], lambda *_: 0.0), table)
        self.stored |= {("GPU-a", float(n)): self._news.now()[0] for n in numbers}

    def fold(self):
        self._pipeline.compactor.compact(10)

    def forget(self):
        self._etcd.compact(self._etcd.status().revision)

    def stall(self, *uploads):
        """Upload while the client takes nothing."""
        self.client.wire.pause()
        for count in uploads:
            self.upload(count)
        self.client.wire.go_on()

    def break_within(self, count, after):
        """Break the connection when some messages of an upload have gone out."""
        wire = self.client.wire
        wire.pause(after)
        self.upload(count)
        wait_until(lambda: wire.is_stuck or not self.untold(), every_s=0.002)
        self.client.come_back()

    def leave(self, count, *, forget):
        """Upload and fold while the client is away."""
        steps = [lambda: self.upload(count), self.fold, *([self.forget] if forget else [])]
        self.client.come_back(steps)

    def do(self, action, *arguments):
        actions = {
            "upload": self.upload,
            "stall": self.stall,
            "leave": lambda count: self.leave(count, forget=False),
            "leave for long": lambda count: self.leave(count, forget=True),
            "fold": self.fold,
            "forget": self.forget,
            "break": self.client.come_back,
            "break within": self.break_within,
            "subscribe anew": self.client.subscribe,
        }
        actions[action](*arguments)

    def missed(self):
        """What was said to be missed: (from, cursor, count)."""
        told = [m for m in self.client.everything() if m["type"] == "missed"]
        return [(int(m["from"], 16), int(m["cursor"], 16), m["count"]) for m in told]

    def untold(self):
        """Records that were neither told nor said to be missed."""
        missed, got = self.missed(), received(self.client.everything())
        return [
            key
            for key, revision in self.stored.items()
            if key not in got and not any(low < revision <= high for low, high, _ in missed)
        ]


@pytest.fixture
def world(etcd, monkeypatch):
    """Makes worlds in which little waits for a socket, and little is in a message."""
    monkeypatch.setattr(outbox, "MOST_BYTES", 1000)
    monkeypatch.setattr(session, "RECORDS_PER_MESSAGE", 9)
    return lambda: World(etcd)


# Each failing example waits to its deadline: they are not made smaller.
@settings(
    max_examples=20,
    deadline=None,
    phases=(Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(actions=ACTIONS)
def test_what_is_stored_is_told_or_said_to_be_missed(world, actions):
    world = world()
    for action in actions:
        world.do(*action)
    world.upload(1)
    wait_until(lambda: not world.untold(), every_s=0.005)
    world.client.leave()
    for low, high, count in world.missed():
        event("slow" if count else "history")
        if count is None:
            assert {"forget", "leave for long"} & {name for name, *_ in actions}
        else:
            assert count == sum(low < revision <= high for revision in world.stored.values())


def test_who_comes_back_again_and_again_while_data_come_misses_nothing(world, monkeypatch):
    monkeypatch.setattr(outbox, "MOST_BYTES", 1_000_000)
    world = world()
    uploading = threading.Thread(target=lambda: [world.upload(2) for _ in range(100)])
    uploading.start()
    for turn in itertools.takewhile(lambda _: uploading.is_alive(), itertools.count()):
        world.client.come_back([world.fold] if turn % 10 == 0 else [])
        wait_until(lambda: received(world.client.wire.messages) or not uploading.is_alive(), every_s=0.001)
    uploading.join()
    wait_until(lambda: not world.untold(), every_s=0.005)
    world.client.leave()
    assert not world.missed()
