"""Keeps a set of processes running, stage by stage, and stops them in the reverse order.

Signal handlers only put their number into the inbox, which the loop reads; so do threads with something to
say. `tick` decides and acts, given the time; waiting is the loop's business alone.
"""

from __future__ import annotations

import logging
import queue
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from local_runtime.instance import Child, decide_restart, describe_exit
from local_runtime.log_tail import LogTail
from shared.errors import PipelineError

log = logging.getLogger(__name__)

#: A process that ended this often before it was ready once will not start: the runtime gives up.
MOST_TRIES = 3
#: As Knative probes at start.
STARTING_PAUSE_S = 0.05
#: SIGCHLD wakes the loop at once when a child ends; this is for logs and missed signals.
IDLE_PAUSE_S = 0.5
#: Lines of its log shown of a process that does not start.
_SHOWN_LINES = 12

#: Tells a person something about a process: (name, sentence).
Tell = Callable[[str, str], None]
#: Woken for nothing, a signal's number, or something to be done in the loop's thread.
Inbox = queue.SimpleQueue[int | Callable[[], None] | None]

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """What the admin port answers of one process."""

    name: str
    ready: bool
    pid: int | None
    port: int | None
    restarts: int


class Supervised:
    """One child that is started again, later and later, whenever it ends."""

    def __init__(self, child: Child, tell: Tell) -> None:
        self.child = child
        self.name = child.spec.name
        self.tail = LogTail(child.spec.log_path)
        self.ready = False
        self.was_ready = False
        self.restarts = 0
        self._tell = tell
        self._failures = 0
        self._started_s = 0.0
        self._restart_at_s: float | None = None

    @property
    def gave_up(self) -> bool:
        """Whether it ended too often before it was ready for the first time."""
        return not self.was_ready and self._failures >= MOST_TRIES

    def start(self, now_s: float) -> None:
        """Start it, at a monotonic time."""
        self.child.start()
        self._started_s, self._restart_at_s = now_s, None

    def tick(self, now_s: float) -> None:
        """See what became of it, and start it again when it is time."""
        code = self.child.exit_code()
        if self._restart_at_s is not None:
            if now_s >= self._restart_at_s and not self.gave_up:
                self.restarts += 1
                self.start(now_s)
        elif code is not None:
            self._ended(code, now_s)
        elif not self.ready and self.child.is_ready():
            self.ready = True
            if self.was_ready:
                self._tell(self.name, f"ready again after {now_s - self._started_s:.1f} s")
            self.was_ready = True
        for line in self.tail.read_new():
            self._tell(self.name, line)

    def state(self) -> ServiceState:
        """Describe it."""
        address = self.child.spec.address
        return ServiceState(
            name=self.name,
            ready=self.ready,
            pid=self.child.pid,
            port=address[1] if address else None,
            restarts=self.restarts,
        )

    def _ended(self, code: int, now_s: float) -> None:
        self.child.clear()
        self.ready = False
        decision = decide_restart(ran_for_s=now_s - self._started_s, failures=self._failures)
        self._failures = decision.failures
        self._restart_at_s = now_s + decision.delay_s
        if not self.gave_up:
            self._tell(
                self.name, f"ended ({describe_exit(code)}), starting it again in {decision.delay_s:g} s"
            )


class Supervisor:
    """Owns the set: each stage starts when the one before is ready, and stops before it."""

    def __init__(self, stages: Sequence[Sequence[Supervised]], on_ready: Callable[[], None]) -> None:
        """Make a supervisor of stages that have not been started.

        Args:
            stages: In the order of their start.
            on_ready: Called in the loop's thread once everything is ready for the first time.
        """
        self.inbox: Inbox = queue.SimpleQueue()
        self._stages = stages
        self._on_ready = on_ready
        self._started = 0
        self._announced = False
        self._stopping = False
        #: Replaced as a whole by the loop, so that any thread may read it.
        self.states: tuple[ServiceState, ...] = ()

    def listen(self) -> None:
        """Install the signal handlers; for the main thread."""
        for number in (*STOPPING_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda received, _frame: self.inbox.put(received))

    def run(self, each_tick: Callable[[], None]) -> None:
        """Run until a stopping signal.

        Args:
            each_tick: Called in every turn, such as to fire what is due.

        Raises:
            PipelineError: A process does not start; says the end of its log.
        """
        while not self._stopping:
            self.tick(time.monotonic())
            if self._announced:
                each_tick()
            self._read_inbox(IDLE_PAUSE_S if self._all_ready() else STARTING_PAUSE_S)

    def tick(self, now_s: float) -> None:
        """Look after every process, and begin the next stage when the last one is ready."""
        current = self._running()
        for supervised in current:
            supervised.tick(now_s)
            if supervised.gave_up:
                raise PipelineError(describe_failure(supervised))
        if all(supervised.was_ready for supervised in current):
            if self._started < len(self._stages):
                for supervised in self._stages[self._started]:
                    supervised.start(now_s)
                self._started += 1
            elif not self._announced:
                self._announced = True
                self._on_ready()
        self.states = tuple(s.state() for stage in self._stages for s in stage)

    def shut_down(self) -> None:
        """Stop everything, the last stage first; a second stopping signal kills what is left.

        A stage has the longest grace time of its processes, then it is killed.
        """
        self._stopping = False
        for stage in reversed(self._stages[: self._started]):
            log.info("stopping %s", ", ".join(s.name for s in stage), extra={"action": "stopping"})
            for supervised in stage:
                supervised.child.terminate()
            deadline = time.monotonic() + max((s.child.spec.grace_s for s in stage), default=0.0)
            while not self._stopping and time.monotonic() < deadline and _any_runs(stage):
                self._read_inbox(STARTING_PAUSE_S)
            for supervised in stage:
                supervised.child.clear()

    def _running(self) -> list[Supervised]:
        return [supervised for stage in self._stages[: self._started] for supervised in stage]

    def _all_ready(self) -> bool:
        return self._announced and all(supervised.ready for supervised in self._running())

    def _read_inbox(self, pause_s: float) -> None:
        """Wait for something to happen, at most for a pause, and take everything that did."""
        try:
            received = self.inbox.get(timeout=pause_s)
            while True:
                if callable(received):
                    received()
                elif received in STOPPING_SIGNALS:
                    self._stopping = True
                received = self.inbox.get_nowait()
        except queue.Empty:
            return


def describe_failure(supervised: Supervised) -> str:
    """Say that a process does not start, with the end of its log."""
    lines = supervised.tail.read_last(_SHOWN_LINES)
    shown = "".join(f"\n    {line}" for line in lines) or " is empty"
    return (
        f"{supervised.name} does not start (tried {MOST_TRIES} times); "
        f"the end of {supervised.child.spec.log_path}:{shown}"
    )


def describe_states(states: Iterable[ServiceState]) -> list[dict[str, object]]:
    """Turn states into what JSON takes."""
    return [asdict(state) for state in states]


def _any_runs(stage: Sequence[Supervised]) -> bool:
    return any(s.child.pid is not None and s.child.exit_code() is None for s in stage)
