"""A small process that outlives a killed runtime just long enough to end what it had started.

The runtime tells its guard the process group of every child, `+123` when it starts and `-123` once it is
gone, one per line, over a pipe. When the pipe ends (the runtime is gone, however that happened) the guard
kills the groups that are left. Why not PR_SET_PDEATHSIG: it reaches the direct child only, and a gunicorn
worker that loses its parent in the middle of a request waits for that request; and there is macOS.

The guard's own half runs as a bare script (`python -I -S guard.py`), so it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

#: How long the guard waits for killed groups to disappear before it lets go of the data directory; bounded,
#: because where nobody collects orphans (a container without an init) they never do.
_GONE_TIMEOUT_S = 0.5


class Guard:
    """The runtime's end of the pipe; closing it ends the guard and every group it still watches."""

    def __init__(self, *, keep_open: tuple[int, ...] = ()) -> None:
        """Start the guard.

        Args:
            keep_open: Descriptors the guard holds too, such as the lock of the data directory: a second
                runtime then waits until everything of the first one is gone.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=keep_open,
        )

    def watch(self, group: int) -> None:
        """Have a process group killed should this process vanish."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Take back a group that is gone: its number may come to mean something else."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the guard and whatever it still watches; safe to call twice."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        if self._process.stdin is None:
            return
        with contextlib.suppress(
            OSError
        ):  # someone killed the guard: nothing to be done, and no reason to stop
            os.write(self._process.stdin.fileno(), line.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _watch() -> None:
    """Read the pipe to its end, then kill what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    while groups and time.monotonic() < deadline:
        groups = {group for group in groups if _kill(group)}
        time.sleep(0.01)


def _kill(group: int) -> bool:
    """Kill a group; whether there was one."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    _watch()
