"""`gpu-telemetry up`: it starts, survives what is killed, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import time

import pytest

from local_runtime.plan import REPOSITORY
from tests.e2e.conftest import run
from tests.waiting import wait_until

SAMPLE = REPOSITORY / "samples" / "two_hosts.csv"
BUSY_GPU = "GPU-e817a7df-505d-5708-9a37-c8d4ec80a831"


def one_line(done):
    """The single line a failed command said."""
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_within_ten_seconds(start, number):
    up = start("--no-sample").wait_ready()
    assert len(up.left_behind()) > 5
    began = time.monotonic()
    assert up.end(number) == 0
    assert time.monotonic() - began < 10
    assert not up.left_behind()
    assert "stopped" in up.output


def test_a_signal_while_it_starts_stops_it_too(start):
    up = start("--no-sample")
    wait_until(lambda: "starting" in up.output)
    assert up.end() in {0, -signal.SIGTERM}
    wait_until(lambda: not up.left_behind(), 3)


def test_kill_9_of_the_runtime_leaves_no_process_and_all_data(start):
    up = start("--no-sample").wait_ready()
    assert up.json("upload", SAMPLE, "--wait")["data"]["state"] == "stored"
    before = up.json("telemetry", BUSY_GPU)
    up.end(signal.SIGKILL)
    wait_until(lambda: not up.left_behind(), 5)
    again = start(ports=up.ports).wait_ready()
    assert again.json("telemetry", BUSY_GPU) == before
    assert before["count"] == 60
    assert "synthetic" not in again.output


def test_a_killed_function_is_started_again(start):
    up = start("--no-sample").wait_ready()
    for name in ("query-00001-1", "queue-source", "etcd"):
        first = up.processes()[name]["pid"]
        os.kill(first, signal.SIGKILL)

        def is_back(name=name, first=first):
            process = up.processes()[name]
            ready = process.get("ready") or process.get("state") == "ready"
            return ready and process["pid"] != first and process["restarts"] == 1

        wait_until(is_back)
        assert re.search(rf"{name}:? ended \(killed by SIGKILL\)", up.output)
    assert up.json("upload", SAMPLE, "--wait")["data"]["state"] == "stored"
    assert up.json("gpus")["count"] == 16


def test_a_function_that_cannot_start_is_reported_with_its_log(start, tmp_path):
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for file in (REPOSITORY / "deploy" / "knative" / "base").glob("*.yaml"):
        text = file.read_text().replace("--source=functions/query/main.py", f"--source={tmp_path}/broken.py")
        (manifests / file.name).write_text(text)
    (tmp_path / "broken.py").write_text("raise RuntimeError('the reason')\n")
    up = start("--no-sample", f"--manifests={manifests}")
    assert up.process.wait(30) == 1
    wait_until(lambda: "the reason" in up.output)
    assert "query does not start" in up.output
    assert not up.left_behind()


def test_a_taken_port_is_named_with_its_option_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("up", "--data-dir", tmp_path / "data", "--query-port", port, "--no-sample")
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in one_line(done)
    assert "--query-port" in done.stderr
    assert not (tmp_path / "data" / "etcd").exists()


def test_a_data_directory_in_use_is_refused(start):
    up = start("--no-sample").wait_ready()
    done = run("up", "--data-dir", up.data_dir)
    assert done.returncode == 1
    assert "in use" in one_line(done)
    assert up.get("admin", "/health")["ready"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--query-port", "0"), "--query-port"),
        (("up", "--query-port", "8081", "--upload-port", "8081"), "--query-port and --upload-port"),
        (("up", "--no-such-option"), "--no-such-option"),
        (("up", "--manifests", "/no/such/folder"), "/no/such/folder"),
        (("up", "--etcd-endpoints", "nonsense"), "host:port"),
        (("uplaod",), "uplaod"),
        (("telemetry", "x", "--limit", "0"), "--limit"),
        (("upload",), "FILES"),
        (("gpus", "--url", "localhost:8080"), "http://"),
    ],
)
def test_a_bad_option_is_one_line_and_status_two(tmp_path, arguments, said):
    more = ("--data-dir", tmp_path) if arguments[0] == "up" else ()
    done = run(*arguments, *more)
    assert done.returncode == 2
    assert said in one_line(done)


def test_a_bad_setting_is_named(tmp_path):
    done = run("up", "--data-dir", tmp_path, VISIBILITY_TIMEOUT="soon")
    assert done.returncode == 2
    assert "VISIBILITY_TIMEOUT" in one_line(done)


def test_an_etcd_that_does_not_answer_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        done = run("up", "--data-dir", tmp_path, "--etcd-endpoints", endpoint)
    assert done.returncode == 1
    assert endpoint in one_line(done)


def test_with_endpoints_no_etcd_is_started(start, etcd_endpoint):
    up = start(f"--etcd-endpoints={etcd_endpoint}", MESSAGE_QUEUE_PREFIX="/test-of-up").wait_ready()
    assert "etcd" not in up.processes()
    assert up.get("upload", "/api/v1/status")["data"]["queue"]["depth"] == 0
    assert "synthetic" not in up.output
