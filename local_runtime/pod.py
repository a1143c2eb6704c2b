"""One instance of a revision: its process, and what becomes of it from its start to its end.

A pod that ends by itself is started again, later and later, as a cluster does; one that is not needed any
more is drained: no new requests, a quiet period, the requests under way, then SIGTERM.
"""

from __future__ import annotations

import enum
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from local_runtime.activator.throttle import Throttle
from local_runtime.instance import Process, decide_restart, describe_exit
from local_runtime.memory import MemoryMeter
from local_runtime.probing import Probing
from shared.errors import PipelineError

log = logging.getLogger(__name__)

#: How often the memory of a pod is read.
MEMORY_PERIOD_S = 1.0
#: From SIGTERM to SIGKILL of one that does not answer its liveness probe: what it works on is lost anyway.
HANGING_GRACE_S = 1.0


class State(enum.StrEnum):
    """Where a pod stands."""

    #: Its process runs and does not answer yet.
    STARTING = "starting"
    #: Requests are routed to it.
    READY = "ready"
    #: It runs, and fails its readiness probe.
    UNREADY = "unready"
    #: It gets no more requests, and ends when those under way are answered.
    DRAINING = "draining"
    #: Its process ended, and is started again in a while.
    BACKOFF = "backoff"
    #: It is no more.
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How the pods of a service are treated."""

    #: From the last routed request to SIGTERM at the earliest.
    quiet_period_s: float
    #: Requests under way are waited for as long; afterwards SIGTERM, and as long again to SIGKILL.
    timeout_s: float
    memory_limit_bytes: int | None


#: Notes what happened to a pod: (action, reason).
Note = Callable[[str, str], None]
#: Makes a probe of a process that starts at a time.
MakeProbing = Callable[[float], Probing]


class Pod:
    """One instance; all methods are given the monotonic time and return at once."""

    def __init__(
        self,
        name: str,
        generation: int,
        process: Process,
        rules: Rules,
        throttle: Throttle,
        note: Note,
        *,
        readiness: MakeProbing | None = None,
        startup: MakeProbing | None = None,
        liveness: MakeProbing | None = None,
    ) -> None:
        self.name = name
        self.generation = generation
        self.process = process
        self.state = State.GONE
        self.restarts = 0
        #: Failures in a row.
        self.failures = 0
        self.was_ready = False
        self.memory_bytes = 0
        self._rules = rules
        self._throttle = throttle
        self._note = note
        self._make_probes = (readiness, startup, liveness)
        self._readiness: Probing | None = None
        #: Until it is ready, and afterwards: whether it is alive.
        self._startup: Probing | None = None
        self._liveness: Probing | None = None
        self._memory: MemoryMeter | None = None
        self._memory_at_s = 0.0
        self._started_s = 0.0
        self._restart_at_s = 0.0
        self._drained_s = 0.0
        self._kill_at_s: float | None = None

    @property
    def in_flight(self) -> int:
        """Requests it works on."""
        return self._throttle.in_flight_of(self.name)

    @property
    def is_in_trouble(self) -> bool:
        """Whether it fails its probe, or ended and does not serve again yet."""
        return self.state in {State.UNREADY, State.BACKOFF} or (
            self.state is State.STARTING and self.failures > 0
        )

    def start(self, now_s: float) -> None:
        """Start its process."""
        self.state = State.STARTING
        self._started_s, self._kill_at_s = now_s, None
        self._readiness, self._startup, self._liveness = (
            make(now_s) if make else None for make in self._make_probes
        )
        self._memory, self._memory_at_s = None, now_s + MEMORY_PERIOD_S
        try:
            self.process.start()
        except PipelineError as exc:
            self._failed(f"cannot be started: {exc.message}", now_s)

    def tick(self, now_s: float) -> None:
        """See what became of it, and do what is due."""
        if self.state is State.GONE:
            return
        if self.state is State.BACKOFF:
            if now_s >= self._restart_at_s:
                self.restarts += 1
                self.start(now_s)
            return
        if self.process.exit_code() is not None:
            self._ended(f"ended ({self.process.describe_exit()})", now_s)
        elif self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._ended(f"ended ({describe_exit(-signal.SIGKILL)})", now_s)
        elif self.state is State.DRAINING:
            self._drain(now_s)
            self._check_memory(now_s)
        elif self._kill_at_s is None:
            self._watch(now_s)
            self._check_memory(now_s)

    def drain(self, now_s: float) -> None:
        """Route nothing more to it, and end it once what it works on is answered."""
        if self.state in {State.DRAINING, State.GONE}:
            return
        served = self.state in {State.READY, State.UNREADY}
        self._throttle.close(self.name)
        if self.state is State.BACKOFF:
            self.state = State.GONE
            return
        self.state, self._drained_s = State.DRAINING, now_s
        if not served and self._kill_at_s is None:
            self._terminate(now_s, self._rules.timeout_s)

    def terminate(self, now_s: float) -> None:
        """End it now: SIGTERM, whatever it works on; it may finish that."""
        self.drain(now_s)
        if self.state is State.DRAINING and self._kill_at_s is None:
            self._terminate(now_s, self._rules.timeout_s)

    def clear(self) -> None:
        """Kill what is left of it."""
        self._throttle.close(self.name)
        self._forget()
        self.state = State.GONE

    def _watch(self, now_s: float) -> None:
        """Look after one that starts or serves."""
        ready = self._is_ready(now_s)
        if ready and self.state is not State.READY:
            if self.was_ready:
                again = "ready again" if self.state is State.STARTING else "well again"
                self._note("ready", f"{again} after {now_s - self._started_s:.1f} s")
            # It has its workers by now: what was seen of its memory may know none.
            self.state, self.was_ready, self._memory = State.READY, True, None
            address = self.process.spec.address
            if address is not None:
                self._throttle.open(self.name, address)
        elif not ready and self.state is State.READY:
            self.state = State.UNREADY
            self._throttle.close(self.name)
            self._note("unready", "fails its readiness probe: it gets no requests until it is well again")
        is_starting = self.state is State.STARTING
        alive = self._startup if is_starting else self._liveness
        if alive is None:
            return
        alive.tick(now_s)
        if alive.has_failed:
            what = "does not start in time" if is_starting else "does not answer its liveness probe"
            self._note("killed", f"{what}: it hangs and is ended")
            self._throttle.close(self.name)
            self.state = State.STARTING if is_starting else State.UNREADY
            self._terminate(now_s, HANGING_GRACE_S)

    def _is_ready(self, now_s: float) -> bool:
        if self._readiness is None:
            return self.state is not State.STARTING or self.process.is_ready()
        self._readiness.tick(now_s)
        if self.state is State.STARTING:
            return self._readiness.has_passed
        return not self._readiness.has_failed

    def _check_memory(self, now_s: float) -> None:
        pid = self.process.pid
        if pid is None or now_s < self._memory_at_s:
            return
        self._memory_at_s = now_s + MEMORY_PERIOD_S
        if self._memory is None:
            self._memory = MemoryMeter(pid)
        self.memory_bytes = self._memory.read_bytes(now_s)
        limit = self._rules.memory_limit_bytes
        if limit is not None and self.memory_bytes > limit:
            taken = f"{self.memory_bytes / 2**20:.0f} of {limit / 2**20:.0f} MiB"
            self._ended(f"took {taken} of memory and was killed (OOMKilled)", now_s)

    def _drain(self, now_s: float) -> None:
        waited_s = now_s - self._drained_s
        if self._kill_at_s is not None or waited_s < self._rules.quiet_period_s:
            return
        if self.in_flight == 0 or waited_s >= self._rules.timeout_s:
            self._terminate(now_s, self._rules.timeout_s)

    def _terminate(self, now_s: float, grace_s: float) -> None:
        self.process.terminate()
        self._kill_at_s = now_s + grace_s

    def _ended(self, why: str, now_s: float) -> None:
        if self.state is State.DRAINING:
            self.clear()
        else:
            self._failed(why, now_s)

    def _failed(self, why: str, now_s: float) -> None:
        """Start it again in a while."""
        self._throttle.close(self.name)
        self._forget()
        served_s = 0.0 if self.state is State.STARTING else now_s - self._started_s
        decision = decide_restart(ran_for_s=served_s, failures=self.failures)
        self.failures = decision.failures
        self._restart_at_s = now_s + decision.delay_s
        self.state = State.BACKOFF
        self._note("ended", f"{why}, starting it again in {decision.delay_s:g} s")

    def _forget(self) -> None:
        for probing in (self._readiness, self._startup, self._liveness):
            if probing is not None:
                probing.cancel()
        self.process.clear()
        self.memory_bytes = 0


def pick_surplus(pods: Sequence[Pod], count: int) -> list[Pod]:
    """Pick those that go first: what does not serve, then the least busy, then the newest."""
    order = [State.BACKOFF, State.STARTING, State.UNREADY, State.READY]
    numbered = [(order.index(pod.state), pod.in_flight, -index, pod) for index, pod in enumerate(pods)]
    return [pod for *_, pod in sorted(numbered, key=lambda entry: entry[:3])][: max(count, 0)]
