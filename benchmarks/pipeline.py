"""One `gpu-telemetry up --no-sample` on a fresh data directory: started, asked, measured, ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.client import Http, find_free_ports
from benchmarks.database import Etcd
from benchmarks.processes import BenchmarkFailure, end, read_cpu_s, read_peak_bytes, wait_quiet, wait_until

COMMAND = Path(sys.executable).parent / "gpu-telemetry"
#: The runtime itself: everything in its tree that belongs to no service (`up` and its guard).
RUNTIME = "runtime"
_NAMES = ("query", "upload", "collect", "admin")
_START_TIMEOUT_S = 60.0
_STORED_TIMEOUT_S = 600.0
#: How often it is asked whether an upload is stored.
_STORED_POLL_S = 0.004
_MOST_TICKS = 12


class Pipeline:
    """A running pipeline; `running` starts and ends it."""

    name = "pipeline"

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.ports = dict(zip(_NAMES, find_free_ports(len(_NAMES)), strict=True))
        self.query, self.upload, self.collect, self.admin = (Http(self.ports[name]) for name in _NAMES)
        data_dir.mkdir(parents=True)
        options = [f"--{name}-port={port}" for name, port in self.ports.items()] + ["--metrics-port=0"]
        # An etcd that somebody else runs is not for us, and what users set is not what is measured.
        environment = {k: v for k, v in os.environ.items() if k != "ETCD_ENDPOINTS"}
        with (data_dir / "up.log").open("wb") as log:
            self._process = subprocess.Popen(
                [COMMAND, "up", f"--data-dir={data_dir}", "--no-sample", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def wait_ready(self) -> None:
        """Wait until everything is up and has come to rest."""
        wait_until(self._is_ready, _START_TIMEOUT_S, "gpu-telemetry up is ready")
        for http, path in (
            (self.upload, "/health/ready"),
            (self.query, "/health/ready"),
            (self.collect, "/health"),
        ):
            http.request("GET", path)
        wait_quiet(self.read_cpu_s)

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise BenchmarkFailure(
                f"gpu-telemetry up ended: {(self.data_dir / 'up.log').read_text()[-2000:]}"
            )
        with contextlib.suppress(BenchmarkFailure):
            return bool(self.admin.get("/health")["ready"])
        return False

    def end(self) -> None:
        """Stop it; the data stay."""
        end(self._process)

    def services(self) -> dict[str, Any]:
        """Ask the runtime what runs, by name."""
        return {service["name"]: service for service in self.admin.get("/services")["services"]}

    def named_pids(self) -> dict[int, str]:
        """Name the processes the runtime has started; all instances of a service have its name."""
        told = self.admin.get("/services")
        pids = {process["pid"]: process["name"] for process in told["processes"] if process["pid"]}
        for service in told["services"]:
            pids |= {instance["pid"]: service["name"] for instance in service["instances"] if instance["pid"]}
        return pids

    def read_cpu_s(self) -> dict[str, float]:
        """Read the CPU seconds so far, by service."""
        return read_cpu_s(self._process.pid, self.named_pids(), RUNTIME)

    def read_peak_bytes(self) -> dict[str, int]:
        """Read the peak resident memory so far, by service."""
        return read_peak_bytes(self._process.pid, self.named_pids(), RUNTIME)

    def post(self, file: BinaryIO, size: int) -> str:
        """Upload CSV; returns the upload's id once every row is durable.

        Raises:
            BenchmarkFailure: It was refused, or a row was rejected.
        """
        report = json.loads(self.upload.post_file("/api/v1/csv/upload", file, size))["data"]
        if report["rejected"]:
            raise BenchmarkFailure(f"{report['rejected']} rows were rejected: {report['errors'][:3]}")
        return str(report["upload_id"])

    def wait_stored(self, upload_id: str) -> None:
        """Wait until every row of an upload is in the store, where queries see it."""
        wait_until(
            lambda: self.upload.get(f"/api/v1/uploads/{upload_id}")["data"]["state"] == "stored",
            _STORED_TIMEOUT_S,
            f"upload {upload_id} is stored",
            every_s=_STORED_POLL_S,
        )

    def status(self) -> dict[str, Any]:
        """Ask upload for the depth of the queue and for etcd."""
        return dict(self.upload.get("/api/v1/status")["data"])

    def tick(self) -> None:
        """Send collect what cron sends: one round of draining and housekeeping."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": os.urandom(8).hex(),
            "ce-type": "dev.knative.sources.ping",
            "ce-source": "/benchmarks",
            "Content-Type": "application/json",
        }
        self.collect.request("POST", "/", b'{"kind": "tick"}', headers)

    def settle(self, on_tick: Callable[[], None] = lambda: None) -> int:
        """Tick until what etcd's database has in use stays the same; returns how many ticks that took."""
        etcd = self.etcd()
        sizes: list[int] = []
        for tick in range(1, _MOST_TICKS + 1):
            self.tick()
            on_tick()
            etcd.compact()
            sizes.append(etcd.read_stored().in_use)
            if len(sizes) > 2 and max(sizes[-3:]) - min(sizes[-3:]) < 64 * 1024:
                return tick
        return _MOST_TICKS

    def etcd(self) -> Etcd:
        """Give the etcd that this pipeline runs on."""
        endpoint = self.status()["etcd"]["endpoints"][0]
        return Etcd(int(endpoint.rpartition(":")[2]))

    def telemetry_path(self, uuid: str, start_ms: int, end_ms: int) -> str:
        """Build the address of one GPU's records in a window."""
        return (
            f"/api/v1/gpus/{uuid}/telemetry?start_time={format_time(start_ms)}&end_time={format_time(end_ms)}"
        )

    def restart_query(self) -> None:
        """Kill query and wait until the runtime has started another that answers."""
        # It may be scaled to zero: then whoever asks finds a fresh one anyway.
        self.query.request("GET", "/health")
        pids = {instance["pid"] for instance in self.services()["query"]["instances"]}
        for pid in pids:
            os.kill(pid, 9)

        def is_back() -> bool:
            instances = self.services()["query"]["instances"]
            return any(i["state"] == "ready" for i in instances) and not pids & {i["pid"] for i in instances}

        wait_until(is_back, _START_TIMEOUT_S, "query is back after it was killed")
        self.query.close()


def format_time(ms: int) -> str:
    """Write epoch milliseconds as RFC 3339."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextlib.contextmanager
def running(data_dir: Path) -> Iterator[Pipeline]:
    """Run a pipeline for the length of a `with` block."""
    pipeline = Pipeline(data_dir)
    try:
        pipeline.wait_ready()
        yield pipeline
    finally:
        pipeline.end()
