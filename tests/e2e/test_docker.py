"""`gpu-telemetry up --backend docker`: the same pipeline, each instance a container; where an engine answers."""

from __future__ import annotations

import collections
import os
import signal
import threading

import pytest
import urllib3

from local_runtime.plan import REPOSITORY
from tests.containers import list_containers, need_image, read_state
from tests.waiting import wait_until

#: Short windows, so that what takes minutes in a cluster takes seconds.
SHORT = [
    "--set=upload.autoscaling.knative.dev/window=6s",
    "--set=query.autoscaling.knative.dev/window=6s",
    "--set=collect.autoscaling.knative.dev/window=6s",
    "--set=config-autoscaler.scale-to-zero-grace-period=1s",
]


@pytest.fixture
def start_docker(start):
    need_image()
    return lambda *arguments, **how: start("--backend=docker", "--no-sample", *arguments, **how)


def test_a_file_comes_in_and_is_answered_and_everything_goes_to_zero(start_docker):
    up = start_docker(*SHORT).wait_ready()
    done = up.run("upload", "--wait", REPOSITORY / "samples" / "two_hosts.csv")
    assert done.returncode == 0, done.stderr
    gpus = up.json("gpus")["count"]
    assert gpus > 0
    assert len(list_containers(up.data_dir)) >= 2
    # The queue source stays; all instances go.
    wait_until(lambda: all(service["ready"] == 0 for service in up.services().values()), 60)
    wait_until(lambda: len(list_containers(up.data_dir)) == 1)
    # From zero again: the request waits for its container.
    assert up.json("gpus")["count"] == gpus
    assert up.services()["query"]["cold_starts"] >= 1
    assert up.end() == 0
    assert list_containers(up.data_dir) == []
    assert up.left_behind() == []


def test_an_instance_that_is_killed_is_replaced(start_docker):
    up = start_docker("--set=query.autoscaling.knative.dev/min-scale=1").wait_ready()
    [first] = wait_until(lambda: up.instances("query", "ready"))
    os.kill(first["pid"], signal.SIGKILL)
    [second] = wait_until(
        lambda: [i for i in up.instances("query", "ready") if i["pid"] not in {None, first["pid"]}], 30
    )
    assert second["restarts"] == 1
    assert "ended (killed by SIGKILL)" in up.output
    assert up.get("query", "/api/v1/gpus")["count"] == 0


def test_a_runtime_that_is_killed_leaves_nothing_that_runs(start_docker):
    killed = start_docker().wait_ready()
    assert killed.left_behind()
    killed.end(signal.SIGKILL)
    wait_until(lambda: not any(read_state(each)["Running"] for each in list_containers(killed.data_dir)))
    wait_until(lambda: killed.left_behind() == [])
    left = list_containers(killed.data_dir)
    assert left
    # On the same ports; what is left of the containers goes with the next start.
    up = start_docker(ports=killed.ports).wait_ready()
    assert "that a killed runtime had left" in up.output
    assert not set(left) & set(list_containers(up.data_dir))


def test_many_requests_take_it_up_and_none_is_lost(start_docker):
    up = start_docker(
        *SHORT, "--set=query.containerConcurrency=2", "--set=query.autoscaling.knative.dev/max-scale=4"
    ).wait_ready()
    codes = collections.Counter()
    stop = threading.Event()
    http = urllib3.PoolManager(retries=False, maxsize=8)

    def ask():
        while not stop.is_set():
            codes[http.request("GET", up.urls["query"] + "/api/v1/gpus").status] += 1

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: up.services()["query"]["ready"] == 4, 30)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert set(codes) == {200}
    wait_until(lambda: not up.instances("query"), 60)


def test_it_is_a_line_where_no_engine_answers(start, tmp_path):
    up = start("--backend=docker", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert up.process.wait(30) == 2
    wait_until(lambda: "error: no docker engine answers at" in up.output)
