"""Keeps a set of processes running, stage by stage, and stops them in the reverse order.

All of it happens in one asyncio loop. Signal handlers, and whoever has news, only wake the loop. `tick`
decides and acts, given the time, and never waits; waiting is the loop's business alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from local_runtime.instance import Process, decide_restart
from local_runtime.log_tail import LogTail
from shared.errors import BadConfig, PipelineError

log = logging.getLogger(__name__)

#: A process that ended this often before it was ready once will not start: the runtime gives up.
MOST_TRIES = 3
#: How often what starts is probed. Knative says 50 ms; a person waits for the first answer here.
STARTING_PAUSE_S = 0.01
#: SIGCHLD wakes the loop at once when a child ends; this is for logs and missed signals.
IDLE_PAUSE_S = 0.5
#: Lines of its log shown of a process that does not start.
_SHOWN_LINES = 12

#: Tells a person something about a process: (name, sentence).
Tell = Callable[[str, str], None]

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Member(Protocol):
    """What a stage is made of: one process, or all instances of a service."""

    name: str

    @property
    def was_ready(self) -> bool:
        """Whether it has been ready once: then the next stage begins."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is about to start, so that looking now and then is enough."""

    @property
    def grace_s(self) -> float:
        """How long it may take to end once it was told to."""

    def start(self, now_s: float) -> None:
        """Start it."""

    def tick(self, now_s: float) -> None:
        """See what became of it, and do what is due.

        Raises:
            PipelineError: It does not start; says the end of its log.
        """

    def terminate(self) -> None:
        """Ask it to end."""

    def is_running(self) -> bool:
        """Whether something of it still runs."""

    def clear(self) -> None:
        """Kill what is left of it."""


class Supervised:
    """One process that is started again, later and later, whenever it ends."""

    def __init__(self, process: Process, tell: Tell) -> None:
        self.process = process
        self.name = process.spec.name
        self.tail = LogTail(process.spec.log_path)
        self.ready = False
        self.was_ready = False
        self.restarts = 0
        self._tell = tell
        self._failures = 0
        self._started_s = 0.0
        self._restart_at_s: float | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is ready."""
        return self.ready

    @property
    def grace_s(self) -> float:
        """As its spec says."""
        return self.process.spec.grace_s

    def start(self, now_s: float) -> None:
        """Start it, at a monotonic time.

        Raises:
            BadConfig: It cannot be, and never could.
        """
        self._started_s, self._restart_at_s = now_s, None
        try:
            self.process.start()
        except BadConfig as exc:
            if not self.was_ready:
                raise
            self._start_later(exc.message, now_s)

    def tick(self, now_s: float) -> None:
        """See what became of it, and start it again when it is time."""
        if self._restart_at_s is not None:
            if now_s >= self._restart_at_s:
                self.restarts += 1
                self.start(now_s)
        elif self.process.exit_code() is not None:
            self._ended(now_s)
        elif not self.ready and self.process.is_ready():
            self.ready = True
            if self.was_ready:
                self._tell(self.name, f"ready again after {now_s - self._started_s:.1f} s")
            self.was_ready = True
        for line in self.tail.read_new():
            self._tell(self.name, line)

    def restart(self) -> None:
        """End it, so that it is started again at once, with new code for example."""
        self.process.terminate()
        self._failures = -1

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.terminate()

    def is_running(self) -> bool:
        """Whether it still runs."""
        return self.process.pid is not None and self.process.exit_code() is None

    def clear(self) -> None:
        """Kill what is left of it."""
        self.process.clear()

    def describe(self) -> dict[str, Any]:
        """Describe it for the admin port."""
        address = self.process.spec.address
        return {
            "name": self.name,
            "ready": self.ready,
            "pid": self.process.pid,
            "port": address[1] if address else None,
            "restarts": self.restarts,
        }

    def _ended(self, now_s: float) -> None:
        how = self.process.describe_exit()
        self.process.clear()
        self._start_later(f"ended ({how})", now_s)

    def _start_later(self, why: str, now_s: float) -> None:
        served_s = now_s - self._started_s if self.ready else 0.0
        self.ready = False
        decision = decide_restart(ran_for_s=served_s, failures=self._failures)
        self._failures = decision.failures
        self._restart_at_s = now_s + decision.delay_s
        if not self.was_ready and self._failures >= MOST_TRIES:
            raise PipelineError(describe_failure(self.name, self.tail))
        self._tell(self.name, f"{why}, starting it again in {decision.delay_s:g} s")


class Supervisor:
    """Owns the set: each stage starts when the one before is ready, and stops before it."""

    def __init__(self, stages: Sequence[Sequence[Member]], on_ready: Callable[[], None]) -> None:
        """Make a supervisor of stages that have not been started.

        Args:
            stages: In the order of their start.
            on_ready: Called once everything is ready for the first time.
        """
        self._stages = stages
        self._on_ready = on_ready
        self._started = 0
        self._announced = False
        self._stopping = False
        self._ending = False
        #: What went wrong in a member's last turn.
        self._problems: dict[Member, str] = {}
        self._wake = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether everything has been ready."""
        return self._announced

    def wake(self) -> None:
        """Have the loop look at once; in the loop's thread."""
        self._wake.set()

    def stop(self) -> None:
        """End `run`; while it shuts down, kill what is left."""
        self._stopping = True
        self._wake.set()

    def listen(self) -> None:
        """Install the signal handlers; within the running loop of the main thread."""
        loop = asyncio.get_running_loop()
        for number in STOPPING_SIGNALS:
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGCHLD, self.wake)

    async def run(self, each_tick: Callable[[], None]) -> None:
        """Run until a stopping signal.

        Args:
            each_tick: Called in every turn once everything was ready, such as to fire what is due.

        Raises:
            PipelineError: A process does not start; says the end of its log.
        """
        while not self._stopping:
            self.tick(time.monotonic())
            if self._announced:
                each_tick()
            await self._pause(IDLE_PAUSE_S if self._is_settled() else STARTING_PAUSE_S)

    def tick(self, now_s: float) -> None:
        """Look after every process, and begin the next stage when the last one is ready."""
        current = self._look_after(now_s)
        if all(member.was_ready for member in current):
            if self._started < len(self._stages):
                for member in self._stages[self._started]:
                    member.start(now_s)
                self._started += 1
            elif not self._announced:
                self._announced = True
                self._on_ready()

    async def shut_down(self) -> None:
        """Stop everything, the last stage first; a second stopping signal kills what is left.

        A stage has the longest grace time of its members, then it is killed.
        """
        self._stopping = False
        self._ending = True
        while self._started:
            self._started -= 1
            stage = self._stages[self._started]
            log.info("stopping %s", ", ".join(m.name for m in stage), extra={"action": "stopping"})
            for member in stage:
                member.terminate()
            deadline = time.monotonic() + max((m.grace_s for m in stage), default=0.0)
            while not self._stopping and time.monotonic() < deadline and any(m.is_running() for m in stage):
                await self._pause(STARTING_PAUSE_S)
                # An instance that requests wait for is to become ready all the same.
                self._look_after(time.monotonic())
            for member in stage:
                member.clear()

    def _look_after(self, now_s: float) -> list[Member]:
        """Give every member its turn; once all were ready, trouble with one of them ends no other."""
        current = self._running()
        for member in current:
            try:
                member.tick(now_s)
                self._problems.pop(member, None)
            except Exception as exc:
                if not (self._announced or self._ending):
                    raise
                if self._problems.get(member) != repr(exc):
                    self._problems[member] = repr(exc)
                    log.exception("%s cannot be looked after", member.name, extra={"action": "tick-failed"})
        return current

    def _running(self) -> list[Member]:
        return [member for stage in self._stages[: self._started] for member in stage]

    def _is_settled(self) -> bool:
        return self._announced and all(member.is_settled for member in self._running())

    async def _pause(self, pause_s: float) -> None:
        """Wait until somebody wakes the loop, at most for a pause."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pause_s)
        self._wake.clear()


def describe_failure(name: str, tail: LogTail) -> str:
    """Say that a process does not start, with the end of its log."""
    lines = tail.read_last(_SHOWN_LINES)
    shown = "".join(f"\n    {line}" for line in lines) or " is empty"
    return f"{name} does not start (tried {MOST_TRIES} times); the end of {tail.path}:{shown}"
