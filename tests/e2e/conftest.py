"""The whole pipeline as a person starts it: `gpu-telemetry up`, a real process on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import urllib3

from local_runtime.ports import find_free_ports
from tests.e2e.greeting import Hello
from tests.processes import mentioning
from tests.waiting import wait_until

COMMAND = str(Path(sys.executable).parent / "gpu-telemetry")
#: An etcd that somebody else runs is not for us.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "ETCD_ENDPOINTS"}


def run(*arguments, **environment):
    """Run the command to its end."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**ENVIRONMENT, **environment},
    )


class Up:
    """One `gpu-telemetry up`."""

    def __init__(self, data_dir, *arguments, ports=None, **environment):
        names = ("query", "upload", "collect", "admin", "metrics")
        self.ports = ports or dict(zip(names, find_free_ports(len(names)), strict=True))
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        self.data_dir = data_dir
        # In the environment of everything it starts: whoever mentions it afterwards was left behind.
        self.mark = f"UP_UNDER_TEST={data_dir}#{self.ports['admin']}"
        name, _, value = self.mark.partition("=")
        port_options = [f"--{name}-port={port}" for name, port in self.ports.items()]
        self.process = subprocess.Popen(
            [COMMAND, "up", f"--data-dir={data_dir}", *port_options, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**ENVIRONMENT, name: value, **environment},
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(30))

    def _read(self):
        with self.process.stdout as lines:
            for line in lines:
                self.output += line

    def wait_ready(self):
        wait_until(lambda: "The pipeline is up" in self.output or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.output
        return self

    def get(self, name, path):
        return json.loads(self._http.request("GET", self.urls[name] + path).data)

    def services(self):
        """The services, by name."""
        return {service["name"]: service for service in self.get("admin", "/services")["services"]}

    def processes(self):
        """Everything that runs: etcd and the sources by their names, instances by theirs."""
        told = self.get("admin", "/services")
        instances = [instance for service in told["services"] for instance in service["instances"]]
        return {process["name"]: process for process in [*told["processes"], *instances]}

    def instances(self, service, *states):
        """The instances of a service that are in one of these states; without any, all."""
        found = self.services()[service]["instances"]
        return [instance for instance in found if not states or instance["state"] in states]

    def run(self, command, *arguments):
        """Run a subcommand against this pipeline."""
        if command == "dead":
            urls = ["--url", self.urls["collect"]]
        elif command == "status":
            urls = ["--url", self.urls["upload"], "--query-url", self.urls["query"]]
            urls += ["--collect-url", self.urls["collect"]]
        else:
            urls = ["--url", self.urls["upload" if command == "upload" else "query"]]
        return run(command, *arguments, *urls)

    def json(self, command, *arguments):
        done = self.run(command, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def left_behind(self):
        return mentioning(self.mark)

    def end(self, number=signal.SIGTERM, timeout_s=10.0):
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        return code


@pytest.fixture
def start(tmp_path):
    """Starts pipelines that are ended with the test."""
    started = []

    def start(*arguments, data_dir=tmp_path / "data", **how):
        up = Up(data_dir, *arguments, **how)
        started.append(up)
        return up

    yield start
    for up in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            up.end()
        if up.process.poll() is None:
            up.end(signal.SIGKILL)


@pytest.fixture
def hello(start, tmp_path):
    """Starts it with options and environment."""
    return lambda *arguments, **environment: Hello(start, tmp_path, *arguments, **environment)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """One pipeline for the tests that only ask it something; with the sample."""
    up = Up(tmp_path_factory.mktemp("pipeline")).wait_ready()
    wait_until(lambda: up.json("gpus")["count"] == 16)
    wait_until(lambda: up.get("query", "/api/v1/gpus")["count"] == 16)
    yield up
    up.end()
