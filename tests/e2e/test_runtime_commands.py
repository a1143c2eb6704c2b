"""The commands for the person at the runtime: in the background and down, top, logs, trigger."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess

import pytest

from local_runtime.plan import REPOSITORY
from local_runtime.ports import find_free_ports
from local_runtime.running import find_pid, is_alive, read_running
from tests.e2e.conftest import COMMAND, ENVIRONMENT, run
from tests.processes import mentioning
from tests.terminal import on_terminal
from tests.waiting import wait_until

SAMPLE = REPOSITORY / "samples" / "two_hosts.csv"
NAMES = ("query", "upload", "collect", "admin", "metrics")


class Background:
    """A data directory whose runtime is started with `up --detach`."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.ports = dict(zip(NAMES, find_free_ports(len(NAMES)), strict=True))
        self.mark = f"UP_IN_BACKGROUND={data_dir}"

    @property
    def command(self):
        ports = [f"--{name}-port={port}" for name, port in self.ports.items()]
        return [COMMAND, "up", "--detach", f"--data-dir={self.data_dir}", "--no-sample", *ports]

    @property
    def environment(self):
        name, _, value = self.mark.partition("=")
        return {name: value}

    def up(self, *arguments):
        return run(*self.command[1:], *arguments, **self.environment)

    def down(self, *arguments):
        return run("down", "--data-dir", self.data_dir, *arguments)

    def left_behind(self):
        return mentioning(self.mark)


@pytest.fixture
def background(tmp_path):
    ours = Background(tmp_path / "data")
    yield ours
    ours.down("--timeout", "10s")


def test_up_detach_returns_when_it_is_ready_and_down_ends_it(background):
    done = background.up()
    assert (done.returncode, done.stderr) == (0, "")
    assert "The pipeline is up." in done.stdout
    assert f"gpu-telemetry down --data-dir {background.data_dir}" in done.stdout
    running = read_running(background.data_dir)
    assert running.urls["query"] == f"http://127.0.0.1:{background.ports['query']}"
    assert os.getsid(running.pid) == running.pid
    again = background.up()
    assert again.returncode == 1
    assert f"process {running.pid}" in again.stderr
    assert run("upload", SAMPLE, "--wait", "--url", running.urls["upload"]).returncode == 0
    ended = background.down()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "stopped" in ended.stdout
    wait_until(lambda: not background.left_behind(), 3)
    assert not (background.data_dir / "runtime.json").exists()
    once_more = background.down()
    assert once_more.returncode == 0
    assert "nothing runs" in once_more.stdout


def test_what_it_says_later_is_in_its_log_with_its_time(background):
    assert background.up().returncode == 0
    os.kill(find_of(background, "queue-source"), signal.SIGKILL)

    def said():
        done = run("logs", "runtime", "--data-dir", background.data_dir)
        return [line for line in done.stdout.splitlines() if "queue-source: ended" in line]

    [line] = wait_until(said)
    assert line.split()[1] == "runtime"
    assert line[2] == line[5] == ":"


def find_of(background, name):
    """The pid of a process of the runtime, as its admin port has it."""
    done = run("top", "--json", "--once", "--data-dir", background.data_dir)
    assert done.returncode == 0, done.stderr
    return next(process["pid"] for process in json.loads(done.stdout)["processes"] if process["name"] == name)


def test_a_start_that_fails_is_told_as_in_the_foreground_and_leaves_nothing(background):
    with socket.create_server(("127.0.0.1", background.ports["query"])):
        done = background.up()
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "--query-port" in done.stderr
    bad = background.up("--query-port", str(background.ports["upload"]))
    assert bad.returncode == 2
    assert "--query-port and --upload-port" in bad.stderr
    assert not background.left_behind()
    assert not is_alive(background.data_dir)


def test_a_start_that_is_broken_off_leaves_nothing(background):
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            background.command,
            env={**ENVIRONMENT, **background.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as starting:
            wait_until(lambda: find_pid(background.data_dir) is not None)
            starting.send_signal(number)
            starting.communicate(timeout=20)
        assert starting.returncode == 130
        wait_until(lambda: not background.left_behind(), 5)


def test_down_ends_a_runtime_of_another_terminal(start):
    up = start("--no-sample").wait_ready()
    done = run("down", "--data-dir", up.data_dir)
    assert done.returncode == 0
    assert up.process.wait(5) == 0
    assert not up.left_behind()


def test_down_kills_what_does_not_end_and_its_guard_clears_away(start):
    up = start("--no-sample").wait_ready()
    up.process.send_signal(signal.SIGSTOP)
    done = run("down", "--data-dir", up.data_dir, "--timeout", "500ms")
    assert done.returncode == 0, done.stderr
    assert "does not end within 0.5 s" in done.stderr
    assert "killed" in done.stdout
    assert up.process.wait(5) == -signal.SIGKILL
    wait_until(lambda: not up.left_behind(), 5)
    assert "nothing runs" in run("down", "--data-dir", up.data_dir).stdout


def test_trigger_sends_a_tick_and_an_event_of_ones_own(pipeline):
    done = run("trigger", "collect", "--data-dir", pipeline.data_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert "204 No Content" in done.stdout
    event = ("--type", "io.gpu-telemetry.queue.messages", "--data", '{"messages": 1}', "--json")
    refused = run("trigger", "collect", "--url", pipeline.urls["collect"], *event)
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["data"]["status"] == 400


def test_logs_are_followed(pipeline):
    with on_terminal(COMMAND, "logs", "-f", "-n", "0", "--data-dir", pipeline.data_dir, columns=200) as shown:
        # Sent again until it is seen: the command takes a moment before it looks.
        wait_until(lambda: pipeline.run("upload", SAMPLE).returncode or "930 of 930 rows" in shown.text)
        wait_until(lambda: "moved" in shown.text)
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 130
    assert {"upload", "collect"} <= {line.split()[1].split("-")[0] for line in shown.text.splitlines()[:-1]}
    unknown = run("logs", "uplaod", "--data-dir", pipeline.data_dir)
    assert unknown.returncode == 1
    assert "upload" in unknown.stderr


def test_top_shows_services_queue_and_processes(pipeline):
    done = run("top", "--json", "--once", "--data-dir", pipeline.data_dir)
    assert (done.returncode, done.stderr) == (0, "")
    look = json.loads(done.stdout)
    assert {service["name"] for service in look["services"]} == {"collect", "query", "upload"}
    assert {process["name"] for process in look["processes"]} == {"etcd", "queue-source"}
    assert look["queue"]["queue_depth"] >= 0
    drawn = run("top", "--url", pipeline.urls["admin"])
    assert drawn.returncode == 0
    assert "INSTANCES" in drawn.stdout
    assert re.search(r"^queue   [0-9]+ messages", drawn.stdout, re.MULTILINE)
    with on_terminal(COMMAND, "top", "--data-dir", pipeline.data_dir) as shown:
        wait_until(lambda: any("queue-source ready" in line for line in shown.screen))
        shown.press("q")
        assert shown.wait() == 0


def test_looking_asks_no_function_so_that_it_wakes_none(pipeline):
    assert pipeline.get("upload", "/api/v1/status")["success"]

    def requests():
        """What was asked of the functions that nobody asks but us, as their access logs have it."""
        logs = (pipeline.data_dir / "logs" / f"{name}.log" for name in ("upload", "query"))
        return sum(log.read_text().count('"action": "access"') for log in logs if log.exists())

    before = wait_until(requests)
    for _ in range(3):
        look = json.loads(run("top", "--json", "--once", "--data-dir", pipeline.data_dir).stdout)
        assert look["queue"]["etcd_up"] == 1
    assert requests() == before
