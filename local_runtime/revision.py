"""A revision of a service: as many pods as its scaler wants, started, replaced and drained."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from local_runtime.activator.throttle import Throttle
from local_runtime.autoscaler import TICK_S
from local_runtime.bounds import Scale
from local_runtime.instance import ChildSpec, Launch
from local_runtime.journal import Journal
from local_runtime.log_tail import LogTail
from local_runtime.manifests import ClusterSettings, Probe, Service
from local_runtime.plan import expand_command
from local_runtime.pod import Pod, Rules, State, pick_surplus
from local_runtime.ports import LOOPBACK, InstancePorts
from local_runtime.probing import Probing
from local_runtime.scaler import Scaler
from local_runtime.supervisor import MOST_TRIES, Tell, describe_failure
from shared.errors import PipelineError

log = logging.getLogger(__name__)

#: Tells whether the instance at an address is well, by a probe of its manifest.
Ask = Callable[[Probe, tuple[str, int]], Awaitable[bool]]
#: How long instances may take to end when the runtime does; what they work on was waited for before.
_STOPPING_GRACE_S = 1.5


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all revisions share."""

    #: Starts instances and sources.
    launch: Launch
    #: Starts what is never anything but a process: etcd.
    launch_process: Launch
    ports: InstancePorts
    journal: Journal
    ask: Ask
    tell: Tell
    cluster: ClusterSettings
    quiet_period_s: float


class Revision:
    """All instances of one service; a member of a stage."""

    def __init__(
        self,
        service: Service,
        template: ChildSpec,
        build: Callable[[Callable[[], None]], Throttle],
        around: Surroundings,
    ) -> None:
        """Make a revision that has not been started.

        Args:
            service: Its manifest.
            template: What every instance is started with, but for its port and its names.
            build: Builds what requests come through, given whom to tell when one waits for a first instance.
            around: What all revisions share.
        """
        self.name = service.metadata.name
        self.throttle = build(self._note_arrival)
        self.was_ready = False
        #: Has the loop look at once.
        self.wake: Callable[[], None] = lambda: None
        self.cold_starts = 0
        self.desired = 0
        self.scaler = Scaler(service, self.throttle, around.cluster, time.monotonic())
        self._service = service
        self._template = template
        self._around = around
        self._rules = Rules(
            quiet_period_s=around.quiet_period_s,
            timeout_s=service.spec.template.spec.timeout_s,
            memory_limit_bytes=service.container.memory_limit_bytes,
        )
        self._generation = 1
        self._made = 0
        self._ended_restarts = 0
        self._pods: list[Pod] = []
        self._tail = LogTail(template.log_path)
        self._decide_at_s = 0.0
        self._stopping = False
        #: Why an instance that is missing is not there.
        self._problem = ""

    # As a member of a stage.

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is about to start."""
        return not any(pod.state in {State.STARTING, State.BACKOFF} for pod in self._pods)

    @property
    def grace_s(self) -> float:
        """From SIGTERM to SIGKILL when the runtime ends."""
        return _STOPPING_GRACE_S

    def start(self, now_s: float) -> None:
        """Start the first instances."""
        self._want(self.scaler.scale)
        self._reconcile(now_s)

    def tick(self, now_s: float) -> None:
        """See what became of every pod, decide how many there should be, and see to it.

        Raises:
            PipelineError: No instance was ever ready, and one ended too often; says the end of its log.
        """
        for pod in self._pods:
            pod.tick(now_s)
        self._drop_gone()
        self._check_start()
        self.scaler.demand.tick(now_s, is_watched=bool(self._pods))
        if self.was_ready and now_s >= self._decide_at_s:
            self._decide(now_s)
        self._reconcile(now_s)
        for line in self._tail.read_new():
            self._around.tell(self.name, line)

    def terminate(self) -> None:
        """End all instances."""
        self._stopping = True
        for pod in self._pods:
            pod.terminate(time.monotonic())

    def is_running(self) -> bool:
        """Whether an instance still runs."""
        return any(pod.process.pid is not None and pod.process.exit_code() is None for pod in self._pods)

    def clear(self) -> None:
        """Kill what is left."""
        for pod in self._pods:
            pod.clear()
        self._pods = []

    # As what is asked and told.

    @property
    def ready(self) -> int:
        """Instances that requests are routed to."""
        return sum(pod.state is State.READY for pod in self._pods)

    @property
    def is_healthy(self) -> bool:
        """Whether no instance is in trouble; without instances it is."""
        return self.was_ready and not self._problem and not any(pod.is_in_trouble for pod in self._pods)

    @property
    def restarts(self) -> int:
        """How often an instance was started again."""
        return self._ended_restarts + sum(pod.restarts for pod in self._pods)

    def replace(self, now_s: float) -> None:
        """Make a new revision of the code as it is now; the old one serves until the new one is ready."""
        self._generation += 1
        self._around.journal.add(
            self.name, "replaced", f"{self._revision} takes over", before=self.desired, after=self.desired
        )
        self._reconcile(now_s)

    def describe(self) -> dict[str, Any]:
        """Describe it for the admin port."""
        scaling, demand = self._service.scaling, self.scaler.demand
        return {
            "name": self.name,
            "revision": self._revision,
            "ready": self.ready,
            "desired": self.desired,
            "min_scale": scaling.min_scale,
            "max_scale": scaling.max_scale,
            "in_flight": self.throttle.in_flight,
            "queued": self.throttle.queued,
            "cold_starts": self.cold_starts,
            "panic": self.scaler.in_panic,
            "concurrency": round(demand.concurrency, 3),
            "requests_per_s": round(demand.requests_per_s, 3),
            "rows_per_s": round(demand.rows_per_s, 3),
            "requests_total": demand.requests,
            "rows_total": demand.rows,
            "restarts": self.restarts,
            "instances": [_describe_pod(pod) for pod in self._pods],
        }

    @property
    def _revision(self) -> str:
        return f"{self.name}-{self._generation:05d}"

    # As what it does.

    def _note_arrival(self) -> None:
        """Wake up at once: a request waits and there is no instance."""
        if self.desired or self._stopping or not self.was_ready:
            return
        now_s = time.monotonic()
        self.scaler.demand.note_arrival(now_s)
        self._decide(now_s)
        if self.desired:
            self.cold_starts += 1
        self._reconcile(now_s)
        self.wake()

    def _decide(self, now_s: float) -> None:
        self._decide_at_s = now_s + TICK_S
        self._want(self.scaler.decide(now_s, self.ready))

    def _want(self, scale: Scale) -> None:
        """Note how many instances there shall be; `_reconcile` sees to it."""
        if scale.desired == self.desired:
            return
        self._around.journal.add(self.name, "scaled", scale.reason, before=self.desired, after=scale.desired)
        self.desired = scale.desired

    def _reconcile(self, now_s: float) -> None:
        """Start what is missing and drain what is too many; the old revision goes once the new one serves."""
        if self._stopping:
            return
        staying = [pod for pod in self._pods if pod.state not in {State.DRAINING, State.GONE}]
        current = [pod for pod in staying if pod.generation == self._generation]
        outdated = [pod for pod in staying if pod.generation != self._generation]
        self._add_pods(self.desired - len(current), now_s)
        surplus = pick_surplus(current, len(current) - self.desired)
        if sum(pod.state is State.READY for pod in current) >= self.desired:
            surplus += outdated
        else:
            # Started (again) it would run the code as it is now.
            surplus += [pod for pod in outdated if pod.state in {State.STARTING, State.BACKOFF}]
        for pod in surplus:
            pod.drain(now_s)
        self._drop_gone()

    def _add_pods(self, count: int, now_s: float) -> None:
        problem = ""
        try:
            for _ in range(count):
                self._add_pod(now_s)
        except PipelineError as exc:
            if not self.was_ready:
                raise
            problem = exc.message
        if problem and problem != self._problem:
            self._around.tell(self.name, f"cannot have another instance yet: {problem}")
        self._problem = problem

    def _add_pod(self, now_s: float) -> None:
        self._made += 1
        name = f"{self._revision}-{self._made}"
        address = (LOOPBACK, self._around.ports.take())
        own = {"PORT": str(address[1]), "HOST": LOOPBACK, "K_REVISION": self._revision, "HOSTNAME": name}
        environment = {**self._template.environment, **own}
        spec = expand_command(replace(self._template, environment=environment, address=address))
        container = self._service.container
        pod = Pod(
            name,
            self._generation,
            self._around.launch(spec),
            self._rules,
            self.throttle,
            partial(self._note, name),
            readiness=self._probe(container.readiness_probe, address),
            startup=self._probe(container.startup_probe or container.liveness_probe, address),
            liveness=self._probe(container.liveness_probe, address),
        )
        self._pods.append(pod)
        pod.start(now_s)

    def _probe(self, probe: Probe | None, address: tuple[str, int]) -> Callable[[float], Probing] | None:
        if probe is None:
            return None
        return partial(Probing, probe, partial(self._around.ask, probe, address))

    def _note(self, pod: str, action: str, what: str) -> None:
        """Tell what became of a pod."""
        self._around.tell(self.name, f"{pod} {what}")
        self._around.journal.add(self.name, action, f"{pod} {what}", before=self.desired, after=self.desired)

    def _drop_gone(self) -> None:
        self._ended_restarts += sum(pod.restarts for pod in self._pods if pod.state is State.GONE)
        self._pods = [pod for pod in self._pods if pod.state is not State.GONE]

    def _check_start(self) -> None:
        """Notice that it has been ready once, or never will be."""
        if self.was_ready:
            return
        self.was_ready = self.ready >= self.desired
        if any(pod.failures >= MOST_TRIES and not pod.was_ready for pod in self._pods):
            raise PipelineError(describe_failure(self.name, self._tail))


def _describe_pod(pod: Pod) -> dict[str, Any]:
    address = pod.process.spec.address
    return {
        "name": pod.name,
        "pid": pod.process.pid,
        "port": address[1] if address else None,
        "state": str(pod.state),
        "in_flight": pod.in_flight,
        "restarts": pod.restarts,
        "memory_bytes": pod.memory_bytes,
    }
