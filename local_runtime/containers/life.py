"""One container from its creation to its removal."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from docker.types import CancellableStream

from local_runtime.containers.creation import build_creation, parse_exit_status
from local_runtime.containers.engine import (
    ENGINE_ERRORS,
    Engine,
    explain,
    find_process,
    release,
    remove_container,
)
from local_runtime.instance import ChildSpec, describe_exit, open_log
from shared import clock

log = logging.getLogger(__name__)

#: The exit status of what could not be started, as shells have it.
NOT_STARTED = 127
#: A line over this is not waited for any longer: what there is of it is written.
_LONGEST_LINE_BYTES = 64 * 1024
#: How long a start waits for the container before it to be removed.
_REMOVAL_TIMEOUT_S = 10.0


class Life:
    """One container, followed by a thread of its own; no method waits unless it says so.

    That thread writes the fields, anybody reads them. The lock puts what is asked of the engine about this
    container in order. It is held while the engine answers, so nothing takes it in the caller's thread.
    """

    def __init__(self, spec: ChildSpec, engine: Engine, *, former: Life | None) -> None:
        """Prepare a life that starts once a former one is gone."""
        #: The container's id; empty until there is one.
        self.id = ""
        self.pid: int | None = None
        self.started = False
        self.exit_code: int | None = None
        #: Set when the container is gone.
        self.gone = threading.Event()
        self._spec = spec
        self._engine = engine
        self._former = former
        self._lock = threading.Lock()
        self._unwanted = False
        self._output: Iterable[bytes] = ()
        #: What the exit code does not tell of how it ended.
        self._reason = ""

    def begin(self) -> None:
        """Create and start the container."""
        threading.Thread(target=self._live, name=f"container-{self._spec.name}", daemon=True).start()

    def describe_exit(self) -> str:
        """Say how the program ended; empty until it did."""
        if self.exit_code is None:
            return ""
        return self._reason or describe_exit(self.exit_code)

    def terminate(self) -> None:
        """Have the program told to end, or not started if it was not yet."""
        self._engine.threads.submit(self._signal, signal.SIGTERM)

    def remove(self) -> None:
        """Have the container killed and removed."""
        self._engine.threads.submit(self._remove)

    def _live(self) -> None:
        try:
            if not self._start():
                self.exit_code = -signal.SIGTERM.value
                return
            self._engine.on_change()
            copy_lines(self._output, self._spec.log_path)
            self.exit_code = self._read_exit_code()
        except ENGINE_ERRORS as exc:
            self._reason = explain(exc)
            self.exit_code = -signal.SIGKILL.value if self.started else NOT_STARTED
        finally:
            if isinstance(self._output, CancellableStream):
                release(self._output)
            if self.pid is not None and self._engine.guard is not None:
                self._engine.guard.forget(self.pid)
            if self._reason and not self._unwanted:
                self._say(self._reason)
            self._engine.on_change()

    def _start(self) -> bool:
        """Create and start the container; False when meanwhile it is not wanted any more."""
        if self._former is not None:
            self._former.gone.wait(_REMOVAL_TIMEOUT_S)
            self._former = None
        api = self._engine.api
        with self._lock:
            if self._unwanted:
                return False
            self.id = api.create_container(**build_creation(self._spec, self._engine))["Id"]
            self._output = api.attach(self.id, stream=True)
            api.start(self.id)
            self.started = True
            self.pid = find_process(self.id, api.inspect_container(self.id)["State"]["Pid"])
        if self.pid is not None and self._engine.guard is not None:
            # It leads a process group; when that is killed, the kernel ends all of the container.
            self._engine.guard.watch(self.pid)
        return True

    def _read_exit_code(self) -> int:
        """Wait for the program's end, which is near: its output has ended."""
        status = self._engine.api.wait(self.id, timeout=None)["StatusCode"]
        if status and self._engine.api.inspect_container(self.id)["State"]["OOMKilled"]:
            limit_bytes = self._spec.memory_limit_bytes
            of = f" of {limit_bytes / 2**20:.0f} MiB" if limit_bytes else ""
            self._reason = f"killed: it took more memory than its limit{of}"
        return parse_exit_status(status)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if not self.id:
                self._unwanted = True
                return
            # It may have ended on its own.
            with contextlib.suppress(*ENGINE_ERRORS):
                self._engine.api.kill(self.id, number.value)

    def _remove(self) -> None:
        try:
            with self._lock:
                self._unwanted = True
                if self.id:
                    remove_container(self._engine.api, self.id)
        except ENGINE_ERRORS as exc:
            # At the end, or at the next start, it is removed with what else is left.
            log.info(
                "%s: its container was not removed: %s",
                self._spec.name,
                explain(exc),
                extra={"action": "container_left"},
            )
        finally:
            self.gone.set()

    def _say(self, message: str) -> None:
        """Add a line to the log of the program, which could not say it itself; the core tells a person."""
        record = {
            "time": datetime.fromtimestamp(clock.now_s(), UTC).isoformat(timespec="milliseconds"),
            "level": "info",
            "logger": __name__,
            "instance": self._spec.name,
            "message": message,
            "action": "container_ended",
        }
        with contextlib.suppress(OSError):
            copy_lines([json.dumps(record).encode()], self._spec.log_path)


def copy_lines(output: Iterable[bytes], path: Path) -> None:
    """Append an output to a log, whole lines at a time: several instances write to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = b""
    with open_log(path) as file:
        for chunk in output:
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            if len(rest) > _LONGEST_LINE_BYTES:
                whole, newline, rest = whole + newline + rest, b"\n", b""
            if newline:
                file.write(whole + newline)
                file.flush()
        if rest:
            file.write(rest + b"\n")
