"""Several collectors that get into each other's way: on one message, on each other's claims, in other times."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from functools import partial

from tests.faults.accounting import Raw, compare, read_all
from tests.faults.doubling import DoublingSink, running_source
from tests.faults.fleet import csv_of, keys_of
from tests.faults.functions import running_functions
from tests.faults.load import Load
from tests.functions import running
from tests.waiting import wait_until

SETTINGS = {"VISIBILITY_TIMEOUT": "2s", "POLL_INTERVAL": "1s"}
TICK = {
    "ce-specversion": "1.0",
    "ce-id": "tick",
    "ce-type": "dev.knative.sources.ping",
    "ce-source": "/ping",
    "content-type": "application/json",
}
HOUR_S = 3600
TICKS_IN_A_ROW = 5


def tick(collector):
    return collector.call("POST", "/", headers=TICK, body=b'{"kind": "tick"}')[0]


def account(f, raw, load):
    raw.wait_empty()
    assert raw.dead() == 0
    wanted = load.keys()
    rows = compare(read_all(f.query.url), wanted)
    raw.compare(wanted)
    return f"{len(load.acknowledged)} uploads acknowledged, {rows} rows compared"


def test_two_collectors_on_one_message(etcd_endpoint, prefix, tmp_path, say, scale):
    where = {"etcd": etcd_endpoint, "prefix": prefix}
    env = {**os.environ, **SETTINGS, "ETCD_ENDPOINTS": etcd_endpoint, "MESSAGE_QUEUE_PREFIX": prefix}
    with (
        running_functions(tmp_path, etcd_endpoint, prefix) as f,
        running("collect", tmp_path, **where, **SETTINGS) as other,
        Raw([etcd_endpoint], prefix) as raw,
        DoublingSink([f.collect, other]) as sink,
        running_source(tmp_path, env, sink.url),
        Load(f.upload.url, "two", pause_s=0.02) as load,
    ):
        wait_until(lambda: len(sink.events) >= 150 * scale, 60 * scale)
        load.stop()
        raw.wait_empty()
        for event in list(sink.events):
            sink.post(event)
        done = account(f, raw, load)
    say(f"{len(sink.events)} events to two collectors at once, and again when it was over: {done}")


def stop_in_a_move(f, raw, body):
    """Have collect move a file, and stop it in the middle; None where it was too fast."""
    assert f.upload.upload(body)[0] == 200
    moving = threading.Thread(target=tick, args=(f.collect,))
    moving.start()
    wait_until(lambda: raw.queue.claimed() or not moving.is_alive(), 30, every_s=0.001)
    os.killpg(f.collect.process.pid, signal.SIGSTOP)
    if raw.queue.claimed():
        return moving
    os.killpg(f.collect.process.pid, signal.SIGCONT)
    moving.join(30)
    return None


def test_a_collector_that_hangs_for_longer_than_its_claim(etcd_endpoint, prefix, tmp_path, say, scale):
    where = {"etcd": etcd_endpoint, "prefix": prefix}
    wanted, hung, rounds = set(), 0, 3 * scale
    with (
        running_functions(tmp_path, etcd_endpoint, prefix) as f,
        running("collect", tmp_path, **where, **SETTINGS) as other,
        Raw([etcd_endpoint], prefix) as raw,
    ):
        for number in range(20 * rounds):
            # A large message: there is time to catch who moves it.
            wanted |= set(keys_of("hung", number, 1000))
            moving = stop_in_a_move(f, raw, csv_of("hung", number, 1000))
            if moving is None:
                continue
            wait_until(lambda: not raw.queue.claimed(), 10)
            assert tick(other) == 204
            assert raw.queue.depth_now() == 0
            os.killpg(f.collect.process.pid, signal.SIGCONT)
            moving.join(30)
            hung += 1
            if hung == rounds:
                break
        raw.wait_empty()
        rows = compare(read_all(f.query.url), wanted)
        raw.compare(wanted)
    assert hung == rounds
    say(f"{hung} times a collector was stopped in a move until another had done it: {rows} rows compared")


@contextlib.contextmanager
def wrong_collector(tmp_path, shift_s, **where):
    """A collector whose clock is wrong."""
    program = [sys.executable, "-m", "tests.faults.shifted_clock", str(shift_s)]
    program += ["--source=functions/collect/main.py", "--target=collect", "--host=127.0.0.1"]
    with running("collect", tmp_path, program=program, **where, **SETTINGS) as collector:
        yield collector


def test_collectors_whose_clocks_differ(etcd_endpoint, prefix, tmp_path, say, scale):
    where = {"etcd": etcd_endpoint, "prefix": prefix}
    make = partial(wrong_collector, tmp_path, **where)
    shifts = {"+2 h": 2 * HOUR_S, "-2 h": -2 * HOUR_S, "+9 days": 9 * 24 * HOUR_S}
    done = threading.Event()
    ticks = dict.fromkeys(shifts, 0)
    with contextlib.ExitStack() as stack:
        f = stack.enter_context(running_functions(tmp_path, etcd_endpoint, prefix))
        raw = stack.enter_context(Raw([etcd_endpoint], prefix))
        wrong = {name: stack.enter_context(make(s)) for name, s in shifts.items()}
        # What everybody else has long since done when these come along.
        assert tick(f.collect) == 204
        load = stack.enter_context(Load(f.upload.url, "clocks", pause_s=0.02))

        def keep_ticking(name):
            while not done.wait(0.05):
                assert tick(wrong[name]) == 204
                ticks[name] += 1

        threads = [threading.Thread(target=keep_ticking, args=(name,)) for name in wrong]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(load.acknowledged) >= 300 * scale, 60 * scale)
        load.stop()
        raw.wait_empty()
        done.set()
        for thread in threads:
            thread.join(30)
        # As where a tick always finds the same collector: its wrong clock has only its own word to agree with.
        for collector in wrong.values():
            for _ in range(TICKS_IN_A_ROW):
                assert tick(collector) == 204
        said = account(f, raw, load)
    say(f"{', '.join(f'{n} ticks at {name}' for name, n in ticks.items())}: {said}")
