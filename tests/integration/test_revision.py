"""All instances of a service: small real processes, the loop turned by hand."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from local_runtime.activator.throttle import Limits, Throttle
from local_runtime.guard import Guard
from local_runtime.instance import Child, ChildSpec
from local_runtime.journal import Journal
from local_runtime.manifests import ClusterSettings, Service
from local_runtime.ports import InstancePorts
from local_runtime.probing import ProbeClient
from local_runtime.revision import Revision, Surroundings
from local_runtime.supervisor import Supervisor
from shared.errors import Conflict, PipelineError
from tests.processes import alive

LISTEN = "import os, socket, time; s = socket.create_server(('127.0.0.1', int(os.environ['PORT']))); time.sleep(600)"
HANGING = "import time; time.sleep(600)"
BROKEN = "raise SystemExit('broken')"
ZERO_AT_FIRST = ClusterSettings(allow_zero_initial_scale=True)


class Ports(InstancePorts):
    """Has none while it is told so."""

    def __init__(self):
        super().__init__()
        self.are_gone = False

    def take(self):
        if self.are_gone:
            raise Conflict("no port is free")
        return super().take()


class Made:
    """A revision of a program, and what is around it; turned by hand."""

    def __init__(self, folder, guard, probes, program, container, annotations):
        self.told = []
        self.ports = Ports()
        self.journal = Journal()
        self.python = folder / "python"
        self.python.symlink_to(sys.executable)
        self.folder = folder
        self.write(program)
        manifest = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "made"},
            "spec": {"template": {
                "metadata": {"annotations": {f"autoscaling.knative.dev/{k}": v for k, v in annotations.items()}},
                "spec": {"containers": [{"image": "made", "command": ["made"], **container}]},
            }},
        }  # fmt: skip
        around = Surroundings(
            launch=lambda spec: Child(spec, guard),
            launch_process=lambda spec: Child(spec, guard),
            ports=self.ports,
            journal=self.journal,
            ask=probes.ask,
            tell=lambda _name, text: self.told.append(text),
            cluster=ZERO_AT_FIRST,
            quiet_period_s=0.0,
        )
        template = ChildSpec(
            name="made",
            command=(str(self.python), str(folder / "program.py")),
            environment=dict(os.environ),
            cwd=folder,
            log_path=folder / "logs" / "made.log",
        )
        limits = Limits(container_concurrency=0, max_scale=10)
        self.revision = Revision(
            Service.model_validate(manifest, context=ZERO_AT_FIRST),
            template,
            lambda arrived: Throttle(limits, on_arrival=arrived),
            around,
        )
        self.supervisor = Supervisor([[self.revision]], lambda: None)

    def write(self, program):
        (self.folder / "program.py").write_text(program)

    def pods(self, *states):
        found = self.revision.describe()["instances"]
        return [pod for pod in found if not states or pod["state"] in states]

    def want(self, count):
        """Have it want so many, whatever was asked."""
        now_s = time.monotonic()
        self.revision._decide_at_s = now_s + 1000
        self.revision._want(replace(self.revision.scaler.scale, desired=count))

    async def until(self, condition, timeout_s=15.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, (self.pods(), self.told)
            self.supervisor.tick(time.monotonic())
            await asyncio.sleep(0.01)

    async def ready(self, count=1):
        await self.until(lambda: len(self.pods("ready")) == len(self.pods()) == count)

    def kill(self, pod):
        os.killpg(pod["pid"], signal.SIGKILL)


@pytest.fixture
def live(tmp_path):
    """Runs what a test does with a revision in a loop, which no task outlives."""

    def live(test, program=LISTEN, container=None, **annotations):
        given = {name.replace("_", "-"): str(value) for name, value in annotations.items()}

        async def all_of_it():
            with Guard() as guard:
                async with ProbeClient() as probes:
                    made = Made(tmp_path, guard, probes, program, container or {}, given)
                    try:
                        await test(made)
                    finally:
                        pids = [pod["pid"] for pod in made.pods() if pod["pid"]]
                        made.revision.clear()
                    assert not any(alive(pid) for pid in pids)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(all_of_it())

    return live


def test_what_ends_before_it_ever_served_is_given_up(live):
    async def test(made):
        with pytest.raises(PipelineError, match=r"made does not start(.|\n)*broken"):
            await made.until(lambda: False)

    live(test, BROKEN)


def test_a_program_that_cannot_be_started_any_more_is_tried_until_it_can(live):
    async def test(made):
        await made.ready()
        made.python.unlink()
        shutil.rmtree(made.folder / "logs")
        (made.folder / "logs").write_text("in the way")
        made.kill(made.pods()[0])
        await made.until(lambda: made.pods("backoff") and made.pods()[0]["restarts"] >= 1)
        assert not made.revision.is_healthy
        (made.folder / "logs").unlink()
        await made.until(lambda: "cannot start" in made.told[-1] and "logs" not in made.told[-1])
        made.python.symlink_to(sys.executable)
        await made.ready()

    live(test)


def test_without_a_port_it_waits_for_one(live):
    async def test(made):
        await made.ready()
        made.ports.are_gone = True
        made.want(3)
        for _ in range(3):
            made.supervisor.tick(time.monotonic())
        assert made.told == ["cannot have another instance yet: no port is free"]
        assert not made.revision.is_healthy
        made.ports.are_gone = False
        await made.ready(3)
        assert made.revision.is_healthy

    live(test)


def test_without_a_port_a_request_waits(live):
    async def test(made):
        await made.until(lambda: made.supervisor.is_ready)
        made.ports.are_gone = True
        asking = asyncio.ensure_future(made.revision.throttle.acquire())
        await made.until(lambda: made.told)
        assert not asking.done()
        made.ports.are_gone = False
        await made.until(asking.done)
        assert asking.result().name == made.pods()[0]["name"]
        assert made.revision.describe()["cold_starts"] == 1

    live(test, initial_scale=0)


def test_the_old_revision_serves_until_a_later_one_is_ready(live):
    async def test(made):
        await made.ready(2)
        made.write(BROKEN)
        made.revision.replace(time.monotonic())
        await made.until(lambda: made.revision.restarts >= 2)
        assert [pod["name"] for pod in made.pods("ready")] == ["made-00001-1", "made-00001-2"]
        # What is started now would be the new code: nobody is to take it for the old.
        made.kill(made.pods("ready")[0])
        await made.until(lambda: len(made.pods("ready")) == 1)
        assert [pod["name"] for pod in made.pods() if "00001" in pod["name"]] == ["made-00001-2"]
        made.write(LISTEN)
        made.revision.replace(time.monotonic())
        await made.until(lambda: all("00003" in pod["name"] for pod in made.pods()))
        await made.ready(2)

    live(test, initial_scale=2, min_scale=2)


PROBED = {"livenessProbe": {"periodSeconds": 1, "failureThreshold": 2, "tcpSocket": {}}}


def test_what_hangs_while_it_starts_is_ended_and_started_again(live):
    async def test(made):
        await made.ready()
        made.write(HANGING)
        made.kill(made.pods()[0])
        await made.until(lambda: any("does not start in time" in text for text in made.told))
        made.write(LISTEN)
        await made.ready()

    live(test, container=PROBED)


def test_a_failed_liveness_probe_has_its_period_before_it_counts_again(live):
    async def test(made):
        began = time.monotonic()
        await made.until(lambda: any("liveness" in text for text in made.told))
        # Two periods of a second each.
        assert time.monotonic() - began > 2

    probe = {
        "periodSeconds": 1,
        "failureThreshold": 2,
        "httpGet": {"path": "nothing", "httpHeaders": [{"name": "a", "value": "\n"}]},
    }
    live(test, container={"livenessProbe": probe})


def test_memory_is_watched_while_an_instance_starts_too(live):
    async def test(made):
        await made.ready()
        made.write("x = b'x' * 200_000_000\n" + HANGING)
        made.kill(made.pods()[0])
        await made.until(lambda: any("OOMKilled" in text for text in made.told))

    live(test, container={"resources": {"limits": {"memory": "100Mi"}}})


def open_files():
    return len([*Path("/proc/self/fd").iterdir()])


def test_ten_that_start_and_stop_leave_nothing_open(live):
    async def test(made):
        await made.until(lambda: made.supervisor.is_ready)
        made.want(1)
        await made.ready()
        made.want(0)
        await made.until(lambda: not made.pods())
        gc.collect()
        before = open_files()
        for _ in range(2):
            made.want(10)
            await made.ready(10)
            made.want(0)
            await made.until(lambda: not made.pods())
        gc.collect()
        assert open_files() == before
        assert made.revision.throttle.open_names == []
        assert made.revision.throttle._closing == set()

    live(test, initial_scale=0)


class Waiting:
    """A member that ends when a task has, as a listener does with its requests."""

    name = "waiting"
    was_ready = is_settled = True
    grace_s = 10.0

    def __init__(self, task):
        self.task = task

    def start(self, now_s):
        pass

    def tick(self, _now_s):
        raise RuntimeError("there is always trouble with this one")

    def terminate(self):
        pass

    def is_running(self):
        return not self.task.done()

    def clear(self):
        self.task.cancel()


def test_a_request_that_waits_when_the_runtime_ends_still_gets_its_instance(live):
    async def test(made):
        await made.until(lambda: made.supervisor.is_ready)
        asking = asyncio.ensure_future(made.revision.throttle.acquire())
        made.supervisor = Supervisor([[made.revision], [Waiting(asking)]], lambda: None)
        made.supervisor._started = 2
        await made.supervisor.shut_down()
        assert asking.done()
        assert asking.result().name == "made-00001-1"
        assert not made.pods()

    live(test, initial_scale=0)


def test_trouble_with_one_member_ends_no_other(live, caplog):
    async def test(made):
        made.supervisor = Supervisor([[Waiting(None)], [made.revision]], lambda: None)
        made.supervisor._stages[0][0].tick = lambda _now_s: None
        await made.ready()
        await made.until(lambda: made.supervisor.is_ready)
        del made.supervisor._stages[0][0].tick
        made.kill(made.pods()[0])
        await made.until(lambda: made.pods() and made.pods()[0]["restarts"] == 1)
        await made.ready()
        assert [record.action for record in caplog.records] == ["tick-failed"]

    live(test)
