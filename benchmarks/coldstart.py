"""Part 7: cold start, from nothing to the first real answer, beside a bare functions-framework hello."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.client import find_free_port
from benchmarks.figures import Section, at_most, divide, format_ms, format_ratio, median
from benchmarks.generate import Fleet
from benchmarks.processes import BenchmarkFailure, end
from benchmarks.run import Run

INCLUDES = """\
- From the start of the process to the last byte of its first answer. The port is tried every 2 ms, as the
  runtime does, and the request sent the moment it accepts.
- hello is `def hello(request): return "hello"`, started with the same command and environment just before
  each; the ratio is that of a pair, and each figure the middle of its pairs, the range of ratios in brackets.
- upload: POST of a CSV of 100 rows, until all of them are durable. collect: cron's tick, which moves what
  that upload left. query: the list of GPUs, and an hour of one GPU, 360 records.
- etcd runs and holds 100 GPUs at 360 instants, folded; byte code and the kernel's file cache are warm.
"""
#: How often a port that does not accept yet is tried again.
_POLL_S = 0.002
_TIMEOUT_S = 30.0
_AT_MOST = 2.0
_ROUNDS, _QUICK_ROUNDS = 15, 5
_ROOT = Path(__file__).resolve().parent.parent
_COMMAND = Path(sys.executable).parent / "functions-framework"
_HELLO = 'def hello(request):\n    return "hello"\n'


@dataclass(frozen=True, slots=True)
class First:
    """A function and the request that is the first it gets."""

    what: str
    function: str
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a start came to."""

    seconds: float
    body: bytes


class Functions:
    """Starts functions on one etcd, one at a time."""

    def __init__(self, folder: Path, etcd: str) -> None:
        self._log = folder / "functions.log"
        self._hello = folder / "hello.py"
        self._hello.write_text(_HELLO)
        # What users set is not what is measured.
        self._environment = {**os.environ, "ETCD_ENDPOINTS": etcd, "THREADS": "12", "WORKERS": "1"}

    def answer(self, first: First) -> Answered:
        """Start a function, ask it once, and end it.

        Raises:
            BenchmarkFailure: It ended, did not listen, or answered no 2xx with something in it.
        """
        source = f"functions/{first.function}/main.py" if first.function != "hello" else self._hello
        port = find_free_port()
        with self._log.open("ab") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                [_COMMAND, f"--source={source}", f"--target={first.function}", "--host=127.0.0.1"],
                cwd=_ROOT,
                env={**self._environment, "PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_listening(process, port)
            body = _ask(port, first)
            return Answered(time.perf_counter() - began, body)
        finally:
            end(process)

    def _wait_listening(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if process.poll() is not None:
                raise BenchmarkFailure(f"a function ended: {self._log.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise BenchmarkFailure(f"a function did not listen after {_TIMEOUT_S:g} s")
            time.sleep(_POLL_S)


def _ask(port: int, first: First) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    connection.request(first.method, first.path, first.body, dict(first.headers))
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if not 200 <= answer.status < 300:
        raise BenchmarkFailure(f"{first.what}: {answer.status} {body[:300].decode(errors='replace')}")
    return body


def measure(run: Run, *, quick: bool) -> Section:
    """Measure part 7 on an etcd of its own."""
    section = Section("Cold start", INCLUDES, ("first answer", "hello", "ratio"))
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    folder = run.new_dir("coldstart")
    with _etcd(folder) as endpoint, run.progress() as progress:
        functions = Functions(folder, endpoint)
        hello = First("hello", "hello", "GET", "/")
        firsts = _fill(functions)
        task = progress.add_task("cold starts", total=rounds * len(firsts))
        pairs: dict[str, list[tuple[float, float]]] = {first.what: [] for first in firsts}
        functions.answer(hello)
        for _ in range(rounds):
            for first in firsts:
                bare = functions.answer(hello).seconds
                pairs[first.what].append((functions.answer(first).seconds, bare))
                progress.advance(task)
    for what, measured in pairs.items():
        _add(section, what, measured)
    return section


def _add(section: Section, what: str, pairs: list[tuple[float, float]]) -> None:
    ratios = [divide(ours, bare) for ours, bare in pairs]
    ours, bare = (median(side) for side in zip(*pairs, strict=True))
    ratio = median(ratios)
    section.add(
        what,
        format_ms(ours),
        format_ms(bare),
        f"{format_ratio(ratio)} ({min(ratios):.2f}-{max(ratios):.2f})",
        at_most(round(ratio, 2), _AT_MOST),
    )
    section.figures[what] = {"seconds": ours, "hello": bare, "ratio": ratio, "ratios": ratios}


def _fill(functions: Functions) -> list[First]:
    """Store a fleet's telemetry, which starts each function once, and say what is asked first.

    Raises:
        BenchmarkFailure: What is asked is not answered with what was stored.
    """
    fleet = Fleet(100, 360)
    functions.answer(_upload(fleet))
    for _ in range(2):  # the second has nothing left but to fold
        functions.answer(_tick())
    uuid = fleet.uuids[50]
    window = "start_time=2024-01-15T00:00:00Z&end_time=2024-01-15T01:00:00Z"
    gpus = First("query: list of GPUs", "query", "GET", "/api/v1/gpus")
    telemetry = First("query: one GPU, 1 h", "query", "GET", f"/api/v1/gpus/{uuid}/telemetry?{window}")
    for first, count in ((gpus, fleet.gpus), (telemetry, fleet.instants)):
        found = functions.answer(first).body.count(b'"hostname"')
        if found != count:
            raise BenchmarkFailure(f"{first.what}: {found} in the answer, expected {count}")
    return [_upload(Fleet(100, 1)), _tick(), gpus, telemetry]


def _upload(fleet: Fleet) -> First:
    csv = b"".join(fleet.iter_csv())
    return First("upload: a CSV", "upload", "POST", "/api/v1/csv/upload", csv, {"Content-Type": "text/csv"})


def _tick() -> First:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": os.urandom(8).hex(),
        "ce-type": "dev.knative.sources.ping",
        "ce-source": "/benchmarks",
        "Content-Type": "application/json",
    }
    return First("collect: a tick", "collect", "POST", "/", b'{"kind": "tick"}', headers)


@contextlib.contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    """Run an etcd alone, as `make setup-etcd` does, and give its endpoint."""
    folder.mkdir(parents=True)
    endpoint = f"127.0.0.1:{find_free_port()}"
    command = [sys.executable, "-m", "local_runtime.embedded_etcd"]
    where = f"--data-dir={folder / 'etcd'}"
    started = subprocess.run(
        [*command, "start", where, f"--endpoint={endpoint}"], capture_output=True, check=False, cwd=_ROOT
    )
    if started.returncode:
        raise BenchmarkFailure(f"etcd did not start: {started.stderr.decode(errors='replace').strip()}")
    try:
        yield endpoint
    finally:
        subprocess.run([*command, "stop", where], capture_output=True, check=False, cwd=_ROOT)
