"""The runtime in the background: starts it as a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from local_runtime.cli import EXIT_USAGE
from local_runtime.instance import describe_exit, open_log
from local_runtime.log_records import RUNTIME
from local_runtime.running import find_pid, read_running
from shared.errors import BadConfig, Conflict, PipelineError

_POLL_S = 0.05
#: A runtime has 10 s to end.
_END_S = 15.0
#: The line with which a command says that it failed, and what follows it.
_ERROR = re.compile(r"^error: (.*)", re.MULTILINE | re.DOTALL)


def start_detached(arguments: Sequence[str], data_dir: Path) -> str:
    """Start a runtime in a session of its own and wait until it is ready; returns what it has said.

    It goes on saying it in DATA_DIR/logs/runtime.log. Where the wait is broken off the runtime is ended.

    Args:
        arguments: Those of `gpu-telemetry` that start it in the foreground.
        data_dir: The data directory that is among them.

    Raises:
        Conflict: One runs there already.
        PipelineError: It ended before it was ready; BadConfig where that is what it said.
    """
    pid = find_pid(data_dir)
    if pid is not None:
        raise Conflict(
            f"a runtime (process {pid}) uses {data_dir} already: "
            f"`gpu-telemetry down --data-dir {data_dir}` ends it"
        )
    path = data_dir / "logs" / f"{RUNTIME}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_log(path) as log:
            begin = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "local_runtime", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as exc:
        raise PipelineError(f"the data directory {data_dir} cannot be used: {exc.strerror}") from exc
    is_ready = _wait_ready(process, data_dir)
    said = path.read_bytes()[begin:].decode(errors="replace")
    if is_ready:
        return said
    kind = BadConfig if process.returncode == EXIT_USAGE else PipelineError
    ended = f"the runtime ended ({describe_exit(process.returncode)}) before it was ready: see {path}"
    error = _ERROR.search(said)
    raise kind(error[1].strip() if error else ended)


def _wait_ready(process: subprocess.Popen[bytes], data_dir: Path) -> bool:
    """Wait until it is ready; False: it has ended. It is ended if the wait is broken off."""
    try:
        while process.poll() is None:
            running = read_running(data_dir)
            if running is not None and running.pid == process.pid:
                return True
            time.sleep(_POLL_S)
    except BaseException:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return False
