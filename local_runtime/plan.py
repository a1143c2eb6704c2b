"""From manifests and options to what is started: which programs, with which environment, on which ports."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from local_runtime.instance import ChildSpec
from local_runtime.manifests import (
    Container,
    ContainerSource,
    Manifests,
    PingSource,
    Service,
    expand_references,
)
from local_runtime.ports import LOOPBACK, build_url, find_free_ports
from local_runtime.triggers import Cron, parse_cron
from shared.config import variables

#: Functions and sources run here: paths in the manifests are relative to it, as in the image.
REPOSITORY = Path(__file__).resolve().parent.parent

#: From SIGTERM to SIGKILL; with etcd's 3 s everything is down within 10 s.
_FUNCTION_GRACE_S = 1.5
_SOURCE_GRACE_S = 2.0
#: What differs between the instances of a service.
_INSTANCE_VARIABLES = frozenset({"PORT", "HOST", "HOSTNAME", "K_REVISION"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `gpu-telemetry up` was told."""

    data_dir: Path
    host: str
    #: Ports by service name; a service that is not named gets a free one.
    ports: Mapping[str, int]
    admin_port: int
    #: Where the queue source serves its metrics; 0: nowhere.
    metrics_port: int = 0
    manifests: Path
    etcd_endpoints: str | None
    sample: bool
    #: A file of tokens; None: none are asked for.
    auth_tokens: Path | None = None
    #: Whether without tokens everybody is served.
    insecure: bool = False
    #: `SERVICE.KEY=VALUE`: what the manifests should say instead.
    overrides: tuple[str, ...] = ()
    #: From the last request an instance is given to SIGTERM, at the earliest.
    quiet_period_s: float = 1.0
    #: Whether a function starts anew when its code changes.
    reload: bool = False
    #: What runs the instances and sources: process or docker.
    backend: str = "process"
    #: With docker, the image they run in; empty: one of the sources, found or built.
    image: str = ""


@dataclass(frozen=True, kw_only=True)
class FunctionPlan:
    """A service: what its instances are started with, and where requests for it come in."""

    service: Service
    #: Of every instance, but for its port and its names.
    template: ChildSpec
    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything to start, apart from etcd."""

    functions: tuple[FunctionPlan, ...]
    sources: tuple[ChildSpec, ...]
    crons: tuple[Cron, ...]
    #: Addresses by service name.
    urls: Mapping[str, str]
    #: Where a source serves the queue's metrics; None: nowhere.
    metrics_url: str | None = None


def build_plan(
    manifests: Manifests, options: Options, *, etcd_endpoints: str, environment: Mapping[str, str]
) -> Plan:
    """Build the plan.

    A variable comes from, the last one wins: the manifest, the environment `up` runs in (so that
    `LOG_LEVEL=debug gpu-telemetry up` does what it says), the runtime (PORT, K_SERVICE, ETCD_ENDPOINTS ...).

    Raises:
        BadConfig: A sink names a Service that does not exist, or a source is not valid.
    """
    names = [service.metadata.name for service in manifests.services]
    free = dict(zip(names, find_free_ports(len(names)), strict=True))
    ports = {name: options.ports.get(name) or free[name] for name in names}
    hosts = {s.metadata.name: LOOPBACK if s.is_cluster_local else options.host for s in manifests.services}
    urls = {name: build_url(hosts[name], port) for name, port in ports.items()}
    timeouts_s = {s.metadata.name: float(s.spec.template.spec.timeout_s) for s in manifests.services}
    builder = _Builder(manifests, options, etcd_endpoints, environment)
    sources = tuple(
        builder.build(
            source.metadata.name,
            source.container,
            {
                "K_SINK": _build_sink_url(manifests, source, urls),
                **_build_event_environment(source),
                **_metrics_address(manifests.environment(source.container), options),
            },
            grace_s=_SOURCE_GRACE_S,
        )
        for source in manifests.container_sources
    )
    crons = tuple(
        parse_cron(
            source,
            _build_sink_url(manifests, source, urls),
            timeout_s=timeouts_s.get(source.spec.sink.ref.name, 300.0) if source.spec.sink.ref else 300.0,
        )
        for source in manifests.ping_sources
    )
    functions = tuple(
        FunctionPlan(
            service=service,
            template=_build_template(builder, service),
            host=hosts[service.metadata.name],
            port=ports[service.metadata.name],
        )
        for service in manifests.services
    )
    serves = options.metrics_port and any("METRICS_PORT" in spec.environment for spec in sources)
    metrics_url = f"{build_url(options.host, options.metrics_port)}/metrics" if serves else None
    return Plan(functions=functions, sources=sources, crons=crons, urls=urls, metrics_url=metrics_url)


def _build_template(builder: _Builder, service: Service) -> ChildSpec:
    name = service.metadata.name
    own = {"K_SERVICE": name, "K_CONFIGURATION": name}
    return builder.build(name, service.container, own, grace_s=_FUNCTION_GRACE_S)


def _metrics_address(variables: Mapping[str, str], options: Options) -> dict[str, str]:
    """Have a source that serves metrics serve them where the options say."""
    if "METRICS_PORT" not in variables:
        return {}
    return {"HOST": options.host, "METRICS_PORT": str(options.metrics_port)}


def _build_event_environment(source: ContainerSource) -> dict[str, str]:
    """Tell a source what its events carry besides, and who vouches for its sink; nothing where that is so."""
    told = {}
    if source.spec.ce_overrides.extensions:
        told["K_CE_OVERRIDES"] = json.dumps({"extensions": source.spec.ce_overrides.extensions})
    if source.spec.sink.ca_certs:
        told["K_CA_CERTS"] = source.spec.sink.ca_certs
    return told


def _build_sink_url(
    manifests: Manifests, source: PingSource | ContainerSource, urls: Mapping[str, str]
) -> str:
    sink = source.spec.sink
    if sink.ref is None:
        return sink.uri
    if sink.ref.name not in urls:
        known = ", ".join(urls)
        raise manifests.mistake(
            source,
            ("spec", "sink", "ref", "name"),
            f"expected a Service of the folder ({known})",
            sink.ref.name,
        )
    return urls[sink.ref.name] + sink.uri


def expand_command(spec: ChildSpec) -> ChildSpec:
    """Put variables where the command names them, `$(K_SINK)`; once the environment is complete."""
    return replace(spec, command=tuple(expand_references(word, spec.environment) for word in spec.command))


class _Builder:
    """Builds specs that differ in a few things only."""

    def __init__(
        self, manifests: Manifests, options: Options, etcd_endpoints: str, environment: Mapping[str, str]
    ) -> None:
        self._manifests = manifests
        self._logs = options.data_dir.absolute() / "logs"
        self._outer = environment
        self._runtime = {
            "ETCD_ENDPOINTS": etcd_endpoints,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
            "PYTHONUNBUFFERED": "1",
            # Also where it is not so: the manifests are of a cluster, and may say otherwise.
            "AUTH_TOKENS": str(options.auth_tokens.absolute()) if options.auth_tokens else "",
            "INSECURE": "true" if options.insecure else "false",
            "RATE_LIMIT": environment.get("RATE_LIMIT", ""),
        }

    def build(
        self,
        name: str,
        container: Container,
        own: Mapping[str, str],
        *,
        grace_s: float,
    ) -> ChildSpec:
        program, *arguments = container.command
        folder = Path(sys.executable).parent
        # Popen looks a bare name up in the PATH of this process, not in the one the child gets.
        beside = folder / program
        if "/" not in program and beside.exists():
            program = str(beside)
        manifest = self._manifests.environment(container)
        own_variables = variables().union(_INSTANCE_VARIABLES, manifest, self._runtime, own) - {"PATH"}
        return ChildSpec(
            name=name,
            command=(program, *arguments, *container.args),
            environment={**manifest, **self._outer, **self._runtime, **own},
            own_variables=own_variables,
            cwd=REPOSITORY,
            log_path=self._logs / f"{name}.log",
            grace_s=grace_s,
            memory_limit_bytes=container.memory_limit_bytes,
        )
