"""Containers: what runs, with which environment, ports, probes and limits."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from local_runtime.manifests.parts import NOTHING, Many, Part, Quantity, Unread, build_mistake
from local_runtime.manifests.probes import LivenessProbe, ReadinessProbe
from local_runtime.manifests.quantities import parse_quantity
from local_runtime.manifests.rights import SecurityContext
from local_runtime.manifests.variables import EnvironmentSource, EnvironmentVariable
from local_runtime.manifests.volumes import VolumeMount

#: Set by Knative itself.
_RESERVED_VARIABLES = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
#: The queue-proxy's.
_RESERVED_PORTS = frozenset({8008, 8012, 8013, 8022, 9090, 9091})
_DEFAULT_PORT = 8080


class Resources(Part):
    """What a container may take."""

    limits: dict[str, Quantity] = NOTHING
    requests: dict[str, Quantity] = NOTHING

    @model_validator(mode="after")
    def _check_amounts(self) -> Resources:
        for kind, amounts in (("limits", self.limits), ("requests", self.requests)):
            for name, amount in amounts.items():
                if parse_quantity(amount) < 0:
                    raise build_mistake((kind, name), amount, "expected 0 or more")
        for name, amount in self.requests.items():
            if name in self.limits and parse_quantity(amount) > parse_quantity(self.limits[name]):
                raise build_mistake(
                    ("requests", name), amount, f"expected at most the limit, {self.limits[name]}"
                )
        return self


class Container(Part):
    """The one container of a pod; its image is not used locally, where the repository is the image."""

    name: str = ""
    image: Annotated[str, Field(min_length=1)]
    command: Annotated[Many[str], Field(min_length=1)]
    args: Many[str] = ()
    env: Many[EnvironmentVariable] = ()
    env_from: Annotated[Many[EnvironmentSource], Field(alias="envFrom")] = ()
    resources: Resources = Resources()
    working_dir: Annotated[str, Field(alias="workingDir")] = ""
    image_pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never", ""], Field(alias="imagePullPolicy")
    ] = ""
    termination_message_path: Annotated[str, Field(alias="terminationMessagePath")] = ""
    termination_message_policy: Annotated[
        Literal["File", "FallbackToLogsOnError", ""], Field(alias="terminationMessagePolicy")
    ] = ""

    @property
    def memory_limit_bytes(self) -> int | None:
        """How much memory an instance may take; None: any amount."""
        limit = self.resources.limits.get("memory")
        return None if limit is None else math.ceil(parse_quantity(limit))


class ContainerPort(Part):
    """A port that the container listens on."""

    container_port: Annotated[int, Field(alias="containerPort", ge=0, le=65535)] = _DEFAULT_PORT
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP", ""] = "TCP"


class FunctionContainer(Container):
    """The container of a Service, as far as Knative allows."""

    ports: Annotated[Many[ContainerPort], Field(max_length=1)] = ()
    readiness_probe: Annotated[ReadinessProbe | None, Field(alias="readinessProbe")] = None
    liveness_probe: Annotated[LivenessProbe | None, Field(alias="livenessProbe")] = None
    startup_probe: Annotated[LivenessProbe | None, Field(alias="startupProbe")] = None
    security_context: Annotated[SecurityContext, Field(alias="securityContext")] = SecurityContext()
    volume_mounts: Annotated[Many[VolumeMount], Field(alias="volumeMounts")] = ()

    @model_validator(mode="after")
    def _check_names(self) -> FunctionContainer:
        if self.name == "queue-proxy":
            raise build_mistake(("name",), self.name, "is the name of Knative's own container")
        for i, variable in enumerate(self.env):
            if variable.name in _RESERVED_VARIABLES:
                raise build_mistake(("env", i, "name"), variable.name, "is set by Knative itself")
        for i, port in enumerate(self.ports):
            if port.name not in {"http1", ""}:
                raise build_mistake(
                    ("ports", i, "name"), port.name, "expected http1 or none (h2c is not spoken locally)"
                )
            if port.protocol not in {"TCP", ""}:
                raise build_mistake(("ports", i, "protocol"), port.protocol, "expected TCP")
            if port.container_port in _RESERVED_PORTS:
                raise build_mistake(
                    ("ports", i, "containerPort"), port.container_port, "is a port of the queue-proxy"
                )
        return self

    @model_validator(mode="after")
    def _check_probed_ports(self) -> FunctionContainer:
        """Locally an instance has one port, another one each: PORT."""
        port = self.ports[0] if self.ports else ContainerPort()
        own = {0, "", port.container_port or _DEFAULT_PORT, port.name or "http"}
        for alias, probe in (
            ("readinessProbe", self.readiness_probe),
            ("livenessProbe", self.liveness_probe),
            ("startupProbe", self.startup_probe),
        ):
            if probe is not None and probe.port not in own:
                handler = "httpGet" if probe.http_get else "tcpSocket"
                raise build_mistake(
                    (alias, handler, "port"), probe.port, "expected the container's port or none"
                )
        return self


class SourceContainer(Container):
    """The container of a ContainerSource: an ordinary pod's, in which Kubernetes allows more."""

    name: Annotated[str, Field(min_length=1)]
    ports: Many[Unread] = ()
    readiness_probe: Annotated[Unread, Field(alias="readinessProbe")] = NOTHING
    liveness_probe: Annotated[Unread, Field(alias="livenessProbe")] = NOTHING
    startup_probe: Annotated[Unread, Field(alias="startupProbe")] = NOTHING
    security_context: Annotated[Unread, Field(alias="securityContext")] = NOTHING
    volume_mounts: Annotated[Many[Unread], Field(alias="volumeMounts")] = ()
    volume_devices: Annotated[Many[Unread], Field(alias="volumeDevices")] = ()
    lifecycle: Unread = NOTHING
    resize_policy: Annotated[Many[Unread], Field(alias="resizePolicy")] = ()
    restart_policy: Annotated[str, Field(alias="restartPolicy")] = ""
    stdin: bool = False
    stdin_once: Annotated[bool, Field(alias="stdinOnce")] = False
    tty: bool = False
