"""The local runtime: checks, starts, watches and stops the whole pipeline on one data directory."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from local_runtime.admin import Admin
from local_runtime.embedded_etcd import build_spec, has_data, is_healthy, read_remembered_port, remember_port
from local_runtime.etcd_binary import EtcdBinary, find_etcd
from local_runtime.guard import Guard
from local_runtime.instance import Child, ChildSpec
from local_runtime.journal import Journal
from local_runtime.manifests import Manifests, read_manifests
from local_runtime.pipeline import Pipeline
from local_runtime.plan import REPOSITORY, Options, Plan, build_plan
from local_runtime.ports import LOOPBACK, InstancePorts, find_free_port, is_loopback, read_port_problem
from local_runtime.probing import ProbeClient
from local_runtime.reload import Reloader
from local_runtime.revision import Surroundings
from local_runtime.supervisor import Tell
from local_runtime.triggers import Poster, Ticker
from shared import clock
from shared.config import environment, read_settings, read_variable
from shared.errors import BadConfig, Conflict, Transient
from shared.tokens import ROLES_OF_SOURCES, TokenFile

if TYPE_CHECKING:
    from local_runtime.containers.backend import DockerBackend

_POLL_S = 0.02
_ENDPOINT_TIMEOUT_S = 3.0
#: Enough for the longest queues in front of three services.
_MOST_FILES = 65_536

#: Called when everything is ready, with the plan and a `tell` for any thread.
OnReady = Callable[[Plan, Tell], None]


class Runtime:
    """One run of the pipeline; `run` blocks until a signal ends it."""

    def __init__(self, options: Options, lock: int, tell: Tell) -> None:
        """Check everything that can be checked before anything is started.

        Args:
            options: What was asked for.
            lock: The descriptor of the data directory's lock, held by the caller.
            tell: Told (name, sentence) of events worth a person's attention, in the thread of `run`.

        Raises:
            BadConfig: A setting, a manifest or an option is wrong, or there is no etcd, or no engine.
            Conflict: A port is taken.
            Transient: The etcd that was named does not answer.
        """
        read_settings()
        self._tokens = read_tokens(options)
        self._options = options
        self._lock = lock
        self._tell = tell
        # Before the ports are looked at: what a killed runtime has left may listen on one.
        self._containers = connect_containers(options, tell) if options.backend == "docker" else None
        check_ports(options)
        self._manifests: Manifests = read_manifests(options.manifests, options.overrides)
        self.etcd_binary: EtcdBinary | None = None
        if options.etcd_endpoints is None:
            self.etcd_binary = find_etcd(read_variable("PATH"))
        else:
            check_endpoints(options.etcd_endpoints)
        #: Whether this data directory has never been used.
        self.is_fresh = options.etcd_endpoints is None and not has_data(options.data_dir)

    def run(self, on_ready: OnReady) -> None:
        """Run the pipeline until SIGINT, SIGTERM or SIGHUP; for the main thread.

        Args:
            on_ready: Called once, when everything is ready, with the plan and a `tell` for any thread.

        Raises:
            PipelineError: A process does not start, or the image cannot be built.
        """
        allow_many_files()
        if self._containers is None:
            asyncio.run(self._run(on_ready))
            return
        with contextlib.closing(self._containers):
            self._containers.prepare()
            asyncio.run(self._run(on_ready))

    async def _run(self, on_ready: OnReady) -> None:
        options = self._options
        with Guard(keep_open=(self._lock,)) as guard:
            etcd_specs, endpoints = self._plan_etcd()
            plan = build_plan(self._manifests, options, etcd_endpoints=endpoints, environment=environment())
            async with ProbeClient() as probes:
                pipeline = Pipeline(plan, etcd_specs, self._build_surroundings(guard, probes))
                await self._run_pipeline(pipeline, plan, etcd_specs, on_ready)

    async def _run_pipeline(
        self, pipeline: Pipeline, plan: Plan, etcd_specs: Sequence[ChildSpec], on_ready: OnReady
    ) -> None:
        loop = asyncio.get_running_loop()

        def later(do: Callable[..., None], *given: Any) -> None:
            """Have something done in the loop, from any thread."""
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is there to do it
                loop.call_soon_threadsafe(do, *given)

        tell_later = partial(later, self._tell)

        def ready() -> None:
            for spec in etcd_specs:
                if spec.address is not None:
                    remember_port(self._options.data_dir, spec.address[1])
            ticker.begin(clock.now_s())
            on_ready(plan, tell_later)

        def changed(names: frozenset[str], problem: str) -> None:
            if self._containers is not None and not problem:
                problem = self._containers.renew_image(tell_later)
            later(self._reload, pipeline, names, problem)

        reloader = Reloader(REPOSITORY, pipeline.code(), changed) if self._options.reload else None
        supervisor = pipeline.build_supervisor(ready)
        supervisor.listen()
        if self._containers is not None:
            self._containers.on_change = partial(later, supervisor.wake)
        admin = Admin(pipeline)
        await admin.start(LOOPBACK, self._options.admin_port)
        poster = Poster(self._tell, self._tokens)
        ticker = Ticker(plan.crons, poster.fire)
        try:
            if reloader is not None:
                reloader.start()
            await supervisor.run(lambda: ticker.tick(clock.now_s()))
        finally:
            poster.stop()
            if reloader is not None:
                reloader.stop()
            await supervisor.shut_down()
            await poster.close()
            await admin.stop()

    def _reload(self, pipeline: Pipeline, names: frozenset[str], problem: str) -> None:
        if problem:
            for name in sorted(names):
                self._tell(name, f"not replaced: {problem}")
            return
        self._tell("reload", f"code changed: {', '.join(sorted(names))} starts anew")
        pipeline.replace(names)

    def _build_surroundings(self, guard: Guard, probes: ProbeClient) -> Surroundings:
        def launch_process(spec: ChildSpec) -> Child:
            return Child(spec, guard)

        if self._containers is not None:
            self._containers.trust(guard)
        return Surroundings(
            launch=launch_process if self._containers is None else self._containers.make,
            launch_process=launch_process,
            ports=InstancePorts(),
            journal=Journal(),
            ask=probes.ask,
            tell=self._tell,
            cluster=self._manifests.cluster,
            quiet_period_s=self._options.quiet_period_s,
        )

    def _plan_etcd(self) -> tuple[list[ChildSpec], str]:
        if self._options.etcd_endpoints is not None:
            return [], self._options.etcd_endpoints
        if self.etcd_binary is None:
            raise BadConfig("there is neither an etcd to start nor one to use")
        data_dir = self._options.data_dir
        port = find_free_port(preferred=read_remembered_port(data_dir))
        return [build_spec(self.etcd_binary, data_dir, port=port)], f"{LOOPBACK}:{port}"


def allow_many_files() -> None:
    """Have as many files open as this process may: each request that waits is a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says it allows what it does not
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(soft, _MOST_FILES if hard < 0 else min(hard, _MOST_FILES)), hard)
        )


def connect_containers(options: Options, tell: Tell) -> DockerBackend:
    """Connect to a docker engine, and remove what a runtime that was killed has left on it.

    Raises:
        BadConfig: There is none that can be used.
    """
    # Importing the SDK takes a tenth of a second, which nobody else is to wait for.
    from local_runtime.containers.backend import DockerBackend  # noqa: PLC0415

    return DockerBackend(
        options.data_dir,
        tell,
        sources=REPOSITORY,
        image=options.image,
        base_image=read_variable("BASE_IMAGE"),
        auth_tokens=options.auth_tokens,
    )


def read_tokens(options: Options) -> TokenFile | None:
    """Read the tokens that are asked for; without any only this machine may be served.

    Raises:
        BadConfig: The file is none, or has no token for the sources; or everybody would be served unasked.
    """
    if options.auth_tokens is not None:
        tokens = TokenFile(options.auth_tokens)
        tokens.first(*ROLES_OF_SOURCES)
        return tokens
    if not options.insecure and not is_loopback(options.host):
        raise BadConfig(
            f"--host {options.host} is open to others, and no tokens are asked for: "
            "--auth-tokens FILE asks for some, --insecure serves everybody"
        )
    return None


def check_ports(options: Options) -> None:
    """Check that every port that was asked for is free.

    Raises:
        BadConfig: Two options name the same port.
        Conflict: A port is taken; names the option that changes it.
    """
    wanted = {**options.ports, "admin": options.admin_port}
    if options.metrics_port:
        wanted["metrics"] = options.metrics_port
    seen: dict[int, str] = {}
    for name, port in wanted.items():
        if port in seen:
            raise BadConfig(f"--{seen[port]}-port and --{name}-port are both {port}")
        seen[port] = name
    for name, port in wanted.items():
        host = LOOPBACK if name == "admin" else options.host
        problem = read_port_problem(host, port)
        if problem is not None:
            raise Conflict(
                f"cannot listen on {host}:{port} for {name}: "
                f"{(problem.strerror or str(problem)).lower()} (--{name}-port takes another port)"
            )


def check_endpoints(endpoints: str) -> None:
    """Check that one of the etcd members that were named answers.

    Raises:
        BadConfig: Not `host:port`, several separated by commas.
        Transient: None answers.
    """
    members = read_settings({"ETCD_ENDPOINTS": endpoints}).endpoints()
    deadline = time.monotonic() + _ENDPOINT_TIMEOUT_S
    while not any(is_healthy(member) for member in members):
        if time.monotonic() > deadline:
            raise Transient(f"no healthy etcd answers at {endpoints}")
        time.sleep(_POLL_S)
