"""One instance from its start to its end; real processes, the loop turned by hand."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest

from local_runtime.activator.throttle import Limits, Throttle
from local_runtime.guard import Guard
from local_runtime.instance import Child, ChildSpec
from local_runtime.pod import Pod, Rules, State, pick_surplus
from local_runtime.ports import find_free_port
from tests.processes import alive

LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"
#: Ends well when it is asked to, after what it still has to do.
POLITE = (
    "import signal, socket, sys, time; s = socket.create_server(('127.0.0.1', {port}));"
    "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), print('done', flush=True), sys.exit(0)));"
    "time.sleep(600)"
)
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + LISTEN
HUNGRY = LISTEN.replace("time.sleep", "x = b'x' * 200_000_000; time.sleep", 1)


@pytest.fixture
def make(tmp_path):
    """Makes pods of programs; what they leave behind is killed."""
    made = []

    with Guard() as guard:

        def make(program, throttle, **rules):
            port = find_free_port()
            spec = ChildSpec(
                name="pod",
                command=(sys.executable, "-c", program.format(port=port)),
                environment=dict(os.environ),
                cwd=tmp_path,
                log_path=tmp_path / "pod.log",
                address=("127.0.0.1", port),
            )
            notes = []
            given = {"quiet_period_s": 0.0, "timeout_s": 5.0, "memory_limit_bytes": None, **rules}
            pod = Pod(
                f"pod-{len(made)}",
                1,
                Child(spec, guard),
                Rules(**given),
                throttle,
                lambda action, what: notes.append((action, what)),
            )
            pod.notes = notes
            made.append(pod)
            return pod

        yield make
        for pod in made:
            pod.clear()


def throttle():
    return Throttle(Limits(container_concurrency=0, max_scale=0), on_arrival=lambda: None)


async def turn_until(pod, condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, (pod.state, pod.notes)
        pod.tick(time.monotonic())
        await asyncio.sleep(0.01)


def test_it_is_routed_to_when_it_listens_and_no_more_when_it_goes(make):
    async def live():
        balance = throttle()
        pod = make(LISTEN, balance)
        pod.start(time.monotonic())
        assert balance.open_names == []
        await turn_until(pod, lambda: pod.state is State.READY)
        assert balance.open_names == [pod.name]
        pod.drain(time.monotonic())
        assert balance.open_names == []
        await turn_until(pod, lambda: pod.state is State.GONE)

    asyncio.run(live())


def test_a_request_under_way_holds_up_sigterm(make, tmp_path):
    async def live():
        balance = throttle()
        pod = make(POLITE, balance)
        pod.start(time.monotonic())
        await turn_until(pod, lambda: pod.state is State.READY)
        lease = await balance.acquire()
        pod.drain(time.monotonic())
        pid = pod.process.pid
        for _ in range(30):
            pod.tick(time.monotonic())
            await asyncio.sleep(0.01)
        assert pod.state is State.DRAINING
        assert (tmp_path / "pod.log").read_text() == ""
        lease.release()
        await turn_until(pod, lambda: pod.state is State.GONE)
        assert (tmp_path / "pod.log").read_text() == "done\n"
        assert not alive(pid)

    asyncio.run(live())


def test_a_quiet_period_passes_before_sigterm(make):
    async def live():
        pod = make(LISTEN, throttle(), quiet_period_s=100.0)
        pod.start(time.monotonic())
        await turn_until(pod, lambda: pod.state is State.READY)
        now = time.monotonic()
        pod.drain(now)
        pod.tick(now + 99.9)
        assert pod.process.exit_code() is None
        pod.tick(now + 100.1)
        await turn_until(pod, lambda: pod.state is State.GONE)

    asyncio.run(live())


def test_what_ignores_sigterm_is_killed_after_the_timeout(make):
    async def live():
        pod = make(STUBBORN, throttle(), timeout_s=100.0)
        pod.start(time.monotonic())
        await turn_until(pod, lambda: pod.state is State.READY)
        now, pid = time.monotonic(), pod.process.pid
        pod.drain(now)
        pod.tick(now + 1)
        pod.tick(now + 99)
        assert pod.state is State.DRAINING
        pod.tick(now + 102)
        assert pod.state is State.GONE
        assert not alive(pid)

    asyncio.run(live())


def test_one_that_is_killed_is_started_again_in_a_while(make):
    async def live():
        balance = throttle()
        pod = make(LISTEN, balance)
        pod.start(time.monotonic())
        await turn_until(pod, lambda: pod.state is State.READY)
        os.killpg(pod.process.pid, signal.SIGKILL)
        await turn_until(pod, lambda: pod.state is State.BACKOFF)
        assert balance.open_names == []
        await turn_until(pod, lambda: pod.state is State.READY)
        assert pod.restarts == 1
        assert balance.open_names == [pod.name]
        assert [action for action, _ in pod.notes] == ["ended", "ready"]
        assert "killed by SIGKILL" in pod.notes[0][1]

    asyncio.run(live())


def test_one_that_takes_more_memory_than_it_may_is_killed(make):
    async def live():
        pod = make(HUNGRY, throttle(), memory_limit_bytes=100_000_000)
        pod.start(time.monotonic())
        await turn_until(pod, lambda: pod.notes, 20)
        assert "of 95 MiB of memory" in pod.notes[0][1]
        assert "OOMKilled" in pod.notes[0][1]
        assert pod.state is State.BACKOFF

    asyncio.run(live())


def test_which_pods_go_first(make):
    balance = throttle()
    states = [State.READY, State.STARTING, State.READY, State.BACKOFF]
    pods = [make(LISTEN, balance) for _ in states]
    for pod, state in zip(pods, states, strict=True):
        pod.state = state
    assert pick_surplus(pods, 3) == [pods[3], pods[1], pods[2]]
    assert pick_surplus(pods, 0) == []
    assert pick_surplus(pods, -1) == []
