"""The runtime in the background: starts it as a process of its own; ends one, wherever it was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from local_runtime.cli import EXIT_USAGE
from local_runtime.instance import describe_exit, open_log
from local_runtime.log_records import ERROR, RUNTIME
from local_runtime.running import Running, find_pid, is_alive, read_running
from shared.errors import BadConfig, Conflict, PipelineError

_LOG = Path("logs") / f"{RUNTIME}.log"
_POLL_S = 0.05
#: A runtime has 10 s to end; its guard clears away what a killed one has left in less than a second.
_END_S = 15.0
CLEARED_S = 5.0


class Detached:
    """A runtime that starts in a session of its own; its output goes to DATA_DIR/logs/runtime.log."""

    def __init__(self, arguments: Sequence[str], data_dir: Path) -> None:
        """Start it.

        Args:
            arguments: Those of `gpu-telemetry` that start a runtime in the foreground.
            data_dir: The data directory that is among them.

        Raises:
            Conflict: One runs there already.
            PipelineError: There is no place for its output.
        """
        pid = find_pid(data_dir)
        if pid is not None:
            raise Conflict(
                f"a runtime (process {pid}) uses {data_dir} already: "
                f"`gpu-telemetry down --data-dir {data_dir}` ends it"
            )
        self._data_dir = data_dir
        self._path = data_dir / _LOG
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open_log(self._path) as log:
                self._begin = log.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "local_runtime", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as exc:
            raise PipelineError(f"the data directory {data_dir} cannot be used: {exc.strerror}") from exc

    def wait_ready(self) -> Running:
        """Wait until it is ready; it is ended if the wait is broken off.

        Raises:
            PipelineError: It ended before it was; BadConfig where that is what it said.
        """
        try:
            while True:
                code = self._process.poll()
                if code is not None:
                    kind = BadConfig if code == EXIT_USAGE else PipelineError
                    raise kind(self._describe_end(code))
                running = read_running(self._data_dir)
                if running is not None and running.pid == self._process.pid:
                    return running
                time.sleep(_POLL_S)
        except BaseException:
            self._end()
            raise

    def read_output(self) -> list[str]:
        """Read the lines it has written since it was started."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._begin)
                return log.read().decode(errors="replace").splitlines()
        except OSError:
            return []

    def _describe_end(self, code: int) -> str:
        lines = self.read_output()
        for i, line in enumerate(lines):
            if line.startswith(ERROR):
                return "\n".join([line.removeprefix(ERROR), *lines[i + 1 :]])
        return f"the runtime ended ({describe_exit(code)}) before it was ready: see {self._path}"

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def ask_to_end(data_dir: Path, number: signal.Signals) -> int | None:
    """Send the runtime on a data directory a signal; returns its pid, None where there is none to send it to.

    Raises:
        PipelineError: It is somebody else's.
    """
    pid = find_pid(data_dir)
    if pid is None:
        return None
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return None
    except PermissionError as exc:
        raise PipelineError(f"the runtime on {data_dir} (process {pid}) is somebody else's") from exc
    return pid


def wait_gone(data_dir: Path, timeout_s: float) -> bool:
    """Wait until no runtime holds the data directory; whether that is so in time."""
    deadline = time.monotonic() + timeout_s
    while is_alive(data_dir):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
