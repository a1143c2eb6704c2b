"""Probes: how an instance is asked whether it is ready, or alive."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from local_runtime.manifests.parts import IntOrString, Many, Part, build_mistake

#: Kubernetes' defaults of what a probe with a period has.
_PACE = {"timeoutSeconds": 1, "failureThreshold": 3}

_Count = Annotated[int, Field(ge=0, le=2**31 - 1)]


class HttpHeader(Part):
    """A header that a probe sends."""

    name: str
    value: str


class HttpGet(Part):
    """Ask over HTTP: 200 to 399 is well."""

    path: str = "/"
    #: Absent, 0, the number or the name of the container's port: PORT.
    port: IntOrString = 0
    scheme: Literal["HTTP", "HTTPS", ""] = "HTTP"
    #: Where to ask instead of the instance: not known locally.
    host: str = ""
    http_headers: Annotated[Many[HttpHeader], Field(alias="httpHeaders")] = ()

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if host:
            raise ValueError("locally a probe asks the instance itself: leave host out")
        return host

    @field_validator("scheme")
    @classmethod
    def _check_scheme(cls, scheme: str) -> str:
        if scheme == "HTTPS":
            raise ValueError("locally an instance speaks HTTP, as behind the queue-proxy")
        return scheme or "HTTP"


class TcpSocket(Part):
    """Ask by connecting."""

    port: IntOrString = 0
    host: str = ""


class Probe(Part):
    """One probe; of none of the three ways the port is connected to."""

    http_get: Annotated[HttpGet | None, Field(alias="httpGet")] = None
    tcp_socket: Annotated[TcpSocket | None, Field(alias="tcpSocket")] = None
    exec: JsonValue = None
    grpc: JsonValue = None
    initial_delay_s: Annotated[_Count, Field(alias="initialDelaySeconds")] = 0
    #: 0: Knative's own pace, every 50 ms; for readiness only.
    period_s: Annotated[_Count, Field(alias="periodSeconds")] = 0
    timeout_s: Annotated[_Count, Field(alias="timeoutSeconds")] = 0
    failure_threshold: Annotated[_Count, Field(alias="failureThreshold")] = 0
    success_threshold: Annotated[_Count, Field(alias="successThreshold")] = 0

    @model_validator(mode="after")
    def _check_handler(self) -> Probe:
        for name in ("exec", "grpc"):
            if getattr(self, name) is not None:
                raise build_mistake((name,), {}, "is not asked locally: use httpGet or tcpSocket")
        if self.http_get is not None and self.tcp_socket is not None:
            raise ValueError("expected one of httpGet and tcpSocket, not both")
        return self

    @property
    def port(self) -> int | str:
        """The port that is asked; 0: PORT."""
        handler = self.http_get or self.tcp_socket
        port: int | str = handler.port if handler else 0
        return port


class ReadinessProbe(Probe):
    """A readiness probe, with Knative's defaults: at its own pace unless a period says otherwise."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        paced = isinstance(data, dict) and data.get("periodSeconds", 0) != 0
        return _fill(data, {"successThreshold": 1} | (_PACE if paced else {}))

    @model_validator(mode="after")
    def _check_pace(self) -> ReadinessProbe:
        for alias, value in (
            ("failureThreshold", self.failure_threshold),
            ("timeoutSeconds", self.timeout_s),
        ):
            if self.period_s == 0 and value != 0:
                raise build_mistake((alias,), value, "needs a periodSeconds of at least 1 beside it")
        return self


class LivenessProbe(Probe):
    """A liveness or startup probe, with Kubernetes' defaults."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        return _fill(data, {"successThreshold": 1, "periodSeconds": 10, **_PACE})

    @field_validator("success_threshold")
    @classmethod
    def _check_success(cls, value: int) -> int:
        if value != 1:
            raise ValueError("expected 1: one answer is a sign of life")
        return value


def _fill(data: Any, defaults: dict[str, int]) -> Any:
    """Put defaults where nothing or 0 stands."""
    if not isinstance(data, dict):
        return data
    return data | {key: value for key, value in defaults.items() if data.get(key, 0) == 0}
