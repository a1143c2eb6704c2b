"""Processes are started, watched, started again and stopped; small real ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_runtime.guard import Guard
from local_runtime.instance import Child, ChildSpec
from local_runtime.plan import REPOSITORY
from local_runtime.ports import find_free_port
from local_runtime.supervisor import Supervised, Supervisor
from shared.errors import BadConfig, PipelineError
from tests.processes import alive, members
from tests.waiting import wait_until

SLEEP = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
FRAMEWORK_FUNCTION = """
import functions_framework, time

@functions_framework.http
def hello(request):
    if request.path == "/slow":
        time.sleep(60)
    return "hello"
"""


@pytest.fixture
def guard():
    with Guard() as guard:
        yield guard


def spec(tmp_path, name, program, **changes):
    given = {
        "name": name,
        "command": (sys.executable, "-c", program),
        "environment": dict(os.environ),
        "cwd": tmp_path,
        "log_path": tmp_path / f"{name}.log",
        "grace_s": 0.5,
    }
    return ChildSpec(**{**given, **changes})


class Watched:
    """A supervisor whose loop is turned by hand."""

    def __init__(self, guard, *stages):
        self.told = []
        self.ready = 0
        stages = [[Supervised(Child(s, guard), self.tell) for s in stage] for stage in stages]
        self.processes = {process.name: process for stage in stages for process in stage}
        self.supervisor = Supervisor(stages, self.note_ready)

    def tell(self, name, sentence):
        self.told.append(f"{name}: {sentence}")

    def note_ready(self):
        self.ready += 1

    def turn_until(self, condition, timeout_s=15.0):
        def turned():
            self.supervisor.tick(time.monotonic())
            return condition()

        wait_until(turned, timeout_s, every_s=0.02)

    def state(self, name):
        return self.processes[name].describe()

    def pid(self, name):
        return self.state(name)["pid"]

    def shut_down(self):
        asyncio.run(self.supervisor.shut_down())


def test_stages_start_one_after_the_other_and_stop_backwards(tmp_path, guard):
    watched = Watched(guard, [spec(tmp_path, "one", SLEEP)], [spec(tmp_path, "two", SLEEP)])
    watched.turn_until(lambda: watched.ready)
    pids = [watched.pid("one"), watched.pid("two")]
    assert watched.ready == 1
    watched.shut_down()
    assert not any(alive(pid) for pid in pids)


def test_a_killed_process_is_started_again(tmp_path, guard):
    watched = Watched(guard, [spec(tmp_path, "one", SLEEP)])
    watched.turn_until(lambda: watched.ready)
    first = watched.pid("one")
    os.kill(first, signal.SIGKILL)
    watched.turn_until(lambda: watched.state("one")["restarts"] == 1 and watched.state("one")["ready"])
    assert watched.pid("one") != first
    assert watched.ready == 1
    assert any("killed by SIGKILL" in line for line in watched.told)
    watched.shut_down()


def test_what_never_starts_is_reported_with_the_end_of_its_log(tmp_path, guard):
    broken = "raise SystemExit('no such table')"
    watched = Watched(guard, [spec(tmp_path, "broken", broken, address=("127.0.0.1", find_free_port()))])
    with pytest.raises(PipelineError, match="broken does not start") as caught:
        watched.turn_until(lambda: False)
    assert "no such table" in caught.value.message
    watched.shut_down()


def test_a_program_that_does_not_exist_is_named(tmp_path, guard):
    watched = Watched(guard, [spec(tmp_path, "one", "", command=("/no/such/program",))])
    with pytest.raises(BadConfig, match="one: cannot start /no/such/program"):
        watched.turn_until(lambda: False)


def test_a_program_that_cannot_be_started_again_is_tried_until_it_can(tmp_path, guard):
    program = tmp_path / "python"
    program.symlink_to(sys.executable)
    watched = Watched(guard, [spec(tmp_path, "one", SLEEP, command=(str(program), "-c", SLEEP))])
    watched.turn_until(lambda: watched.ready)
    program.unlink()
    os.kill(watched.pid("one"), signal.SIGKILL)
    watched.turn_until(lambda: any("cannot start" in line for line in watched.told))
    assert watched.state("one")["ready"] is False
    program.symlink_to(sys.executable)
    watched.turn_until(lambda: watched.state("one")["ready"])
    watched.shut_down()


def test_what_ignores_sigterm_is_killed_after_its_grace_time(tmp_path, guard):
    watched = Watched(guard, [spec(tmp_path, "stubborn", STUBBORN)])
    watched.turn_until(lambda: watched.ready and "up" in (tmp_path / "stubborn.log").read_text())
    pid = watched.pid("stubborn")
    began = time.monotonic()
    watched.shut_down()
    assert 0.4 < time.monotonic() - began < 3
    assert not alive(pid)


def test_an_instance_with_a_request_in_flight_goes_with_its_workers(tmp_path, guard):
    """gunicorn's worker would outlive its parent for as long as the request takes."""
    port = find_free_port()
    (tmp_path / "main.py").write_text(FRAMEWORK_FUNCTION)
    framework = str(Path(sys.executable).parent / "functions-framework")
    child = Child(
        spec(
            tmp_path,
            "hello",
            "",
            command=(framework, "--source=main.py", "--target=hello"),
            environment={**os.environ, "PORT": str(port), "HOST": "127.0.0.1", "THREADS": "4"},
            address=("127.0.0.1", port),
        ),
        guard,
    )
    child.start()
    wait_until(child.is_ready)
    group = child.pid
    slow = subprocess.Popen(["curl", "-s", f"http://127.0.0.1:{port}/slow"], stdout=subprocess.DEVNULL)
    wait_until(lambda: len(members(group)) == 2)
    child.stop()
    wait_until(lambda: not members(group), 2)
    slow.wait(5)


def test_the_guard_kills_what_a_killed_runtime_leaves(tmp_path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from local_runtime.guard import Guard\n"
        "from local_runtime.instance import Child, ChildSpec\n"
        "guard = Guard()\n"
        f"spec = ChildSpec(name='x', command=(sys.executable, '-c', {STUBBORN!r}), environment={{}},\n"
        f"                 cwd=Path('/'), log_path=Path({str(tmp_path / 'x.log')!r}))\n"
        "child = Child(spec, guard)\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    runtime = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    pid = int(runtime.stdout.readline())
    wait_until(lambda: "up" in (tmp_path / "x.log").read_text())
    runtime.kill()
    runtime.wait()
    runtime.stdout.close()
    wait_until(lambda: not alive(pid), 3)
