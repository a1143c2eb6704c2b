"""Containers: what runs, with which environment, ports, probes and limits."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from local_runtime.manifests.environment import EnvironmentSource, EnvironmentVariable
from local_runtime.manifests.parts import NOTHING, Many, Part, build_mistake

#: Set by Knative itself.
_RESERVED_VARIABLES = frozenset({"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
_DEFAULT_PORT = 8080
#: The pattern of the CRDs' schemas.
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,3})?", re.ASCII)
_SUFFIXES = {
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("num", -3)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
}


def parse_quantity(value: object) -> Decimal:
    """Read an amount of Kubernetes, such as `512Mi`, `1.5G`, `250m` or a bare number; raises ValueError."""
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, int | str) else None
    if match is None:
        raise ValueError("expected an amount such as 512Mi, 1G, 250m or a whole number")
    number, suffix = Decimal(match[1]), match[2] or ""
    if number < 0:
        raise ValueError("expected 0 or more")
    return number * (_SUFFIXES[suffix] if suffix in _SUFFIXES else Decimal(f"1{suffix}"))


_Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Quantity = Annotated[Decimal, BeforeValidator(parse_quantity)]


class _HttpHeader(Part):
    name: str
    value: str


class TcpSocket(Part):
    """Ask by connecting."""

    #: Its number or name; 0: the container's.
    port: Any = 0
    #: Locally a probe asks the instance itself.
    host: Literal[""] = ""


class HttpGet(TcpSocket):
    """Ask over HTTP: 200 to 399 is well."""

    path: str = "/"
    scheme: Literal["HTTP", ""] = "HTTP"
    http_headers: Many[_HttpHeader] = ()


class Probe(Part):
    """One probe; of neither way the port is connected to."""

    #: What holds where nothing or 0 stands.
    DEFAULTS: ClassVar[dict[str, int]] = {"successThreshold": 1}
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    initial_delay_s: _Count = 0
    #: 0: Knative's own pace, every 50 ms; for readiness only.
    period_s: _Count = 0
    timeout_s: _Count = 0
    failure_threshold: _Count = 0
    success_threshold: _Count = 0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        is_paced = bool(data.get("periodSeconds") or cls.DEFAULTS.get("periodSeconds"))
        defaults = cls.DEFAULTS | ({"timeoutSeconds": 1, "failureThreshold": 3} if is_paced else {})
        return data | {key: value for key, value in defaults.items() if repr(data.get(key, 0)) == "0"}

    @model_validator(mode="after")
    def _check(self) -> Probe:
        if self.http_get is not None and self.tcp_socket is not None:
            raise ValueError("expected one of httpGet and tcpSocket, not both")
        paced = {"failureThreshold": self.failure_threshold, "timeoutSeconds": self.timeout_s}
        for alias, value in paced.items():
            if self.period_s == 0 and value != 0:
                raise build_mistake((alias,), value, "needs a periodSeconds of at least 1 beside it")
        return self


class ReadinessProbe(Probe):
    """A readiness probe, with Knative's defaults: at its own pace unless a period says otherwise."""


class LivenessProbe(Probe):
    """A liveness or startup probe, with Kubernetes' defaults."""

    DEFAULTS = Probe.DEFAULTS | {"periodSeconds": 10}
    #: One answer is a sign of life.
    success_threshold: Literal[1] = 1


class _Resources(Part):
    limits: dict[str, _Quantity] = NOTHING
    requests: dict[str, _Quantity] = NOTHING


class Container(Part):
    """The one container of a pod; its image is not used locally, where the repository is the image."""

    READ_PAST = (
        "imagePullPolicy securityContext terminationMessagePath terminationMessagePolicy volumeMounts"
        " workingDir"
    )
    name: str = ""
    image: Annotated[str, Field(min_length=1)]
    command: Annotated[Many[str], Field(min_length=1)]
    args: Many[str] = ()
    env: Many[EnvironmentVariable] = ()
    env_from: Many[EnvironmentSource] = ()
    resources: _Resources = _Resources()

    @property
    def memory_limit_bytes(self) -> int | None:
        """How much memory an instance may take; None: any amount."""
        limit = self.resources.limits.get("memory")
        return None if limit is None else math.ceil(limit)


class _ContainerPort(Part):
    READ_PAST = "protocol"
    container_port: Annotated[int, Field(ge=0, le=65535)] = _DEFAULT_PORT
    #: h2c is not spoken locally.
    name: Literal["http1", ""] = ""


class FunctionContainer(Container):
    """The container of a Service, as far as Knative allows."""

    ports: Annotated[Many[_ContainerPort], Field(max_length=1)] = ()
    readiness_probe: ReadinessProbe | None = None
    liveness_probe: LivenessProbe | None = None
    startup_probe: LivenessProbe | None = None

    @model_validator(mode="after")
    def _check(self) -> FunctionContainer:
        for i, variable in enumerate(self.env):
            if variable.name in _RESERVED_VARIABLES:
                raise build_mistake(("env", i, "name"), variable.name, "is set by Knative itself")
        # Locally an instance has one port, another one each: PORT.
        port = self.ports[0] if self.ports else _ContainerPort()
        own = (0, "", port.container_port or _DEFAULT_PORT, port.name or "http")
        for alias, probe in (
            ("readinessProbe", self.readiness_probe),
            ("livenessProbe", self.liveness_probe),
            ("startupProbe", self.startup_probe),
        ):
            handler = probe and (probe.http_get or probe.tcp_socket)
            if handler and handler.port not in own:
                path = (alias, "httpGet" if isinstance(handler, HttpGet) else "tcpSocket", "port")
                raise build_mistake(path, handler.port, "expected the container's port or none")
        return self


class SourceContainer(Container):
    """The container of a ContainerSource: an ordinary pod's, in which Kubernetes allows more."""

    READ_PAST = (
        f"{Container.READ_PAST} ports readinessProbe livenessProbe startupProbe lifecycle volumeDevices"
        " resizePolicy restartPolicy stdin stdinOnce tty"
    )
    name: Annotated[str, Field(min_length=1)]
