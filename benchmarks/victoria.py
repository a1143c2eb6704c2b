"""One VictoriaMetrics on a fresh data folder, with its defaults: what the pipeline is measured beside."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from benchmarks.client import Http, find_free_port, with_parameters
from benchmarks.generate import COLUMNS, LABELS, METRICS
from benchmarks.processes import BenchmarkFailure, end, read_cpu_s, read_peak_bytes, wait_quiet, wait_until

_START_TIMEOUT_S = 30.0
#: What each column of the file is, in its own words.
_KINDS = {
    "timestamp": "time:rfc3339",
    **{n: f"label:{n}" for n in LABELS},
    **{n: f"metric:{n}" for n in METRICS},
}
FORMAT = ",".join(f"{place}:{_KINDS[name]}" for place, name in enumerate(COLUMNS, 1))


def find_victoria() -> str | None:
    """Find its program (Debian's package is victoria-metrics)."""
    return shutil.which("victoria-metrics", path="/usr/bin:/usr/local/bin")


class Victoria:
    """A running VictoriaMetrics; `running` starts and ends it."""

    name = "VictoriaMetrics"

    def __init__(self, program: str, data_dir: Path) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True)
        self.port = find_free_port()
        self.http = Http(self.port)
        with (data_dir.parent / f"{data_dir.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"-storageDataPath={data_dir}",
                    f"-httpListenAddr=127.0.0.1:{self.port}",
                    # The file is of 2024: the default of one month would drop it.
                    "-retentionPeriod=100y",
                    "-loggerLevel=ERROR",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> None:
        """Wait until it answers and has come to rest."""

        def answers() -> bool:
            if self._process.poll() is not None:
                raise BenchmarkFailure(f"victoria-metrics ended with status {self._process.returncode}")
            with contextlib.suppress(BenchmarkFailure):
                return bool(self.http.get_bytes("/health"))
            return False

        wait_until(answers, _START_TIMEOUT_S, "victoria-metrics answers")
        wait_quiet(self.read_cpu_s)

    def end(self) -> None:
        """Stop it; the data stay."""
        end(self._process)

    def read_cpu_s(self) -> dict[str, float]:
        """Read the CPU seconds so far."""
        return read_cpu_s(self._process.pid, {}, self.name)

    def read_peak_bytes(self) -> dict[str, int]:
        """Read the peak resident memory so far."""
        return read_peak_bytes(self._process.pid, {}, self.name)

    def post(self, file: BinaryIO, size: int) -> None:
        """Import CSV; it may be in memory, and not searchable yet, when this returns."""
        self.http.post_file(with_parameters("/api/v1/import/csv", format=FORMAT), file, size)

    def flush(self) -> None:
        """Make everything that was imported searchable."""
        self.http.get_bytes("/internal/force_flush")

    def count_samples(self, at_ms: int, window_s: int) -> int:
        """Count the samples of all series in a window that ends at a time."""
        answer = self.http.get(
            "/api/v1/query",
            query=f'sum(count_over_time({{uuid!=""}}[{window_s}s]))',
            time=f"{at_ms / 1000:.3f}",
        )
        found = answer["data"]["result"]
        return int(float(found[0]["value"][1])) if found else 0

    def export_path(self, uuid: str, start_ms: int, end_ms: int) -> str:
        """Build the address of one GPU's series in a window; both ends are inclusive there."""
        return with_parameters(
            "/api/v1/export",
            **{
                "match[]": f'{{uuid="{uuid}"}}',
                "start": f"{start_ms / 1000:.3f}",
                "end": f"{(end_ms - 1) / 1000:.3f}",
            },
        )

    def merge(self) -> None:
        """Merge all parts into one, and wait for it."""
        self.flush()
        self.http.get_bytes("/internal/force_merge")

        def is_idle() -> bool:
            metrics = self.http.get_bytes("/metrics").decode()
            active = re.findall(r"^vm_active_merges\{[^}]*\} (\d+)$", metrics, re.MULTILINE)
            # force_merge begins in the background, after its answer: parts say when it has happened.
            parts = re.findall(r'^vm_parts\{type="storage[^}]*\} (\d+)$', metrics, re.MULTILINE)
            return not any(map(int, active)) and sum(map(int, parts)) <= 1

        with contextlib.suppress(BenchmarkFailure):  # several months are several parts
            wait_until(is_idle, 60.0, "victoria-metrics has merged", every_s=0.2)

    def read_folder_bytes(self) -> dict[str, int]:
        """Read what its folders take in blocks, as `du` does: the samples, and the index of series."""
        return {name: du(self.data_dir / name) for name in ("data", "indexdb")}


def du(folder: Path) -> int:
    """Add up the blocks of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # merged away meanwhile
            total += path.lstat().st_blocks * 512
    return total


@contextlib.contextmanager
def running(program: str, data_dir: Path) -> Iterator[Victoria]:
    """Run a VictoriaMetrics for the length of a `with` block."""
    victoria = Victoria(program, data_dir)
    try:
        victoria.wait_ready()
        yield victoria
    finally:
        victoria.end()
