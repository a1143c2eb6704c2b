"""Everything that runs, wired together: etcd, the functions behind their activators, the sources."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from local_runtime.activator.deadline import Timeouts
from local_runtime.activator.server import Activator
from local_runtime.activator.throttle import Limits, Throttle
from local_runtime.instance import ChildSpec
from local_runtime.listener import Listener
from local_runtime.manifests import Service
from local_runtime.plan import FunctionPlan, Plan, expand_command
from local_runtime.reload import find_code
from local_runtime.revision import Revision, Surroundings
from local_runtime.supervisor import Member, Supervised, Supervisor


class Pipeline:
    """The members of every stage, and what they tell of themselves."""

    def __init__(self, plan: Plan, etcd: Sequence[ChildSpec], around: Surroundings) -> None:
        tell, journal = around.tell, around.journal
        self._plan = plan
        self._journal = journal
        self._etcd = [Supervised(around.launch_process(spec), tell) for spec in etcd]
        self._sources = [Supervised(around.launch(expand_command(spec)), tell) for spec in plan.sources]
        self.revisions = [_build_revision(function, around) for function in plan.functions]
        self._listeners = [
            _build_listener(function, revision)
            for function, revision in zip(plan.functions, self.revisions, strict=True)
        ]
        self._supervisor: Supervisor | None = None

    def build_supervisor(self, on_ready: Callable[[], None]) -> Supervisor:
        """Build what starts, watches and ends all of it."""
        stages: list[Sequence[Member]] = [self._etcd, self.revisions, self._listeners, self._sources]
        self._supervisor = Supervisor(stages, on_ready)
        for revision in self.revisions:
            revision.wake = self._supervisor.wake
        return self._supervisor

    def code(self) -> dict[str, tuple[Path, ...]]:
        """Tell which folders of code each function and source runs."""
        specs = [*(function.template for function in self._plan.functions), *self._plan.sources]
        return {spec.name: find_code(spec.command) for spec in specs}

    def replace(self, names: Collection[str]) -> None:
        """Start functions and sources anew, with the code as it is now."""
        for revision in self.revisions:
            if revision.name in names:
                revision.replace(time.monotonic())
        for source in self._sources:
            if source.name in names:
                source.restart()
        if self._supervisor is not None:
            self._supervisor.wake()

    @property
    def is_ready(self) -> bool:
        """Whether everything serves, or would when asked."""
        return (
            self._supervisor is not None
            and self._supervisor.is_ready
            and all(process.ready for process in [*self._etcd, *self._sources])
            and all(revision.is_healthy for revision in self.revisions)
        )

    @property
    def metrics_url(self) -> str | None:
        """Where the queue source serves its metrics; None: nowhere."""
        return self._plan.metrics_url

    def describe_services(self) -> list[dict[str, Any]]:
        """Describe every service."""
        return [{**r.describe(), "url": self._plan.urls[r.name]} for r in self.revisions]

    def describe_processes(self) -> list[dict[str, Any]]:
        """Describe everything else that runs."""
        return [process.describe() for process in [*self._etcd, *self._sources]]

    def describe_events(self) -> list[dict[str, Any]]:
        """List the last events, the newest last."""
        return self._journal.describe()


def _build_revision(function: FunctionPlan, around: Surroundings) -> Revision:
    service = function.service
    limits = Limits(
        container_concurrency=service.spec.template.spec.container_concurrency,
        max_scale=service.scaling.max_scale,
    )
    return Revision(service, function.template, lambda arrived: Throttle(limits, on_arrival=arrived), around)


def _build_listener(function: FunctionPlan, revision: Revision) -> Listener:
    activator = Activator(revision.name, revision.throttle, _read_timeouts(function.service))
    return Listener(revision.name, activator, function.host, function.port)


def _read_timeouts(service: Service) -> Timeouts:
    spec = service.spec.template.spec
    return Timeouts(
        request_s=float(spec.timeout_s),
        response_start_s=spec.response_start_timeout_s,
        idle_s=spec.idle_timeout_s,
    )
