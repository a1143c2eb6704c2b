"""One child process: start it, see whether it is ready, stop it, and decide when to start it again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from local_runtime.guard import Guard
from shared.errors import BadConfig

#: A log over this size is begun afresh at the next start.
LOG_LIMIT_BYTES = 16 * 1024 * 1024
#: A child that lived this long ran well: the next failure counts as the first.
RAN_WELL_S = 10.0
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What to start, and how."""

    name: str
    command: tuple[str, ...]
    #: The whole environment of the child.
    environment: Mapping[str, str]
    #: Those of them that concern the program itself; a container gets no others, such as this machine's PATH.
    own_variables: frozenset[str] = frozenset()
    cwd: Path
    #: Standard output and error are appended to this file.
    log_path: Path
    #: Where it listens; None for a program that is ready once it runs.
    address: tuple[str, int] | None = None
    #: A better probe than a TCP connect, where there is one.
    probe: Callable[[], bool] | None = None
    #: From SIGTERM to SIGKILL.
    grace_s: float = 5.0
    #: What it may take of memory; None: whatever there is.
    memory_limit_bytes: int | None = None


class Process(Protocol):
    """A program that was or will be started, whatever runs it.

    Every method returns at once; a backend that takes longer works on in a thread of its own, and until it is
    done the program neither is ready nor has ended.
    """

    @property
    def spec(self) -> ChildSpec:
        """What is started."""

    @property
    def pid(self) -> int | None:
        """The process id, also of a process that has ended and was not started again."""

    def start(self) -> None:
        """Start it; its log continues where it was.

        Raises:
            BadConfig: It can never start.
        """

    def exit_code(self) -> int | None:
        """Return how it ended (negative: the signal), or None while it runs or was never started."""

    def describe_exit(self) -> str:
        """Say how it ended; empty until it did."""

    def is_ready(self) -> bool:
        """Whether it runs, and its port, if any, accepts."""

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""

    def clear(self) -> None:
        """Kill whatever is left of it; afterwards it counts as never started."""


#: Makes what can be started of a spec.
Launch = Callable[[ChildSpec], Process]


@dataclass(frozen=True, kw_only=True)
class Restart:
    """When to start a child again that ended."""

    #: Failures in a row, this one included.
    failures: int
    delay_s: float


def decide_restart(*, ran_for_s: float, failures: int) -> Restart:
    """Decide how long to wait after a child ended: 0.1 s, doubled with each failure in a row, at most 5 s."""
    count = 1 if ran_for_s >= RAN_WELL_S else failures + 1
    delay_s = FIRST_BACKOFF_S * 2 ** min(count - 1, 16)
    return Restart(failures=count, delay_s=min(delay_s, LONGEST_BACKOFF_S))


def describe_exit(code: int) -> str:
    """Say how a process ended, given subprocess's return code (negative: a signal)."""
    if code >= 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def accepts(address: tuple[str, int], *, timeout_s: float = 0.2) -> bool:
    """Whether something accepts TCP connections at an address (the default readiness probe of Knative)."""
    try:
        with socket.create_connection(address, timeout=timeout_s):
            return True
    except OSError:
        return False


class Child:
    """A process in a session of its own, watched by the guard; started and stopped any number of times."""

    def __init__(self, spec: ChildSpec, guard: Guard) -> None:
        self.spec = spec
        self._guard = guard
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, also of a process that has ended and was not started again."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process; its log continues where it was.

        Raises:
            BadConfig: The program does not exist or may not be run, or its log cannot be written.
        """
        try:
            self.spec.log_path.parent.mkdir(parents=True, exist_ok=True)
            with open_log(self.spec.log_path) as log:
                self._process = subprocess.Popen(
                    self.spec.command,
                    env=dict(self.spec.environment),
                    cwd=self.spec.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as exc:
            program = self.spec.command[0]
            where = f" ({exc.filename})" if exc.filename not in {None, program} else ""
            raise BadConfig(f"{self.spec.name}: cannot start {program}: {exc.strerror}{where}") from exc
        self._guard.watch(self._process.pid)

    def exit_code(self) -> int | None:
        """Return how the process ended, or None while it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def describe_exit(self) -> str:
        """Say how the process ended; empty until it did."""
        code = self.exit_code()
        return "" if code is None else describe_exit(code)

    def is_ready(self) -> bool:
        """Whether the process runs and its probe succeeds: by default that its port, if any, accepts."""
        if self._process is None or self._process.poll() is not None:
            return False
        if self.spec.probe is not None:
            return self.spec.probe()
        return self.spec.address is None or accepts(self.spec.address)

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM); whoever asked waits with `exit_code` and then calls `clear`."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def clear(self) -> None:
        """Kill whatever is left of the process and its children; afterwards it counts as never started.

        A gunicorn worker whose parent was killed still holds the port for a while: the next start needs it.
        """
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._guard.forget(self._process.pid)
        self._process = None

    def stop(self) -> None:
        """Terminate, wait for the grace time, clear; blocks for at most the grace time."""
        self.terminate()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.spec.grace_s)
        self.clear()


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending, or afresh when it has grown over the limit."""
    too_long = path.exists() and path.stat().st_size > LOG_LIMIT_BYTES
    if too_long:
        path.replace(path.with_suffix(path.suffix + ".1"))
    return path.open("ab")
