"""Settings: the only reader of the environment.

A plain pydantic model and not pydantic-settings: importing the latter adds about 110 ms to every cold
start (docs/adr/0005), and what it would do for us is the twenty lines at the end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from shared.errors import BadConfig
from shared.expected import ExpectedGpus, parse_expected_gpus

#: etcd's own limit for one request is 1.5 MiB; messages and segments stay clear of it.
MIB = 1024 * 1024

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": MIB, "gib": 1024 * MIB}
_ORIGIN = re.compile(r"https?://([^\s:/,@?#*]+|\[[0-9a-f:]+\])(:\d{1,5})?")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(text: str) -> int:
    """Read a size such as `2GiB`, `500MB` or a bare number of bytes.

    Raises:
        ValueError: Not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError("expected a size such as 2GiB, 500MB or a number of bytes")
    size = float(match[1]) * _UNITS[match[2].lower()]
    if size >= 2**63:
        raise ValueError("expected a size below 8 EiB")
    return int(size)


def parse_duration_s(text: str) -> float:
    """Read a duration such as `30s`, `500ms`, `5m`, `7d` or a bare number of seconds.

    Raises:
        ValueError: Not a duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if match is None or match[2] not in _SECONDS:
        raise ValueError("expected a duration such as 30s, 500ms, 5m or a number of seconds")
    return float(match[1]) * _SECONDS[match[2]]


def split_list(text: str) -> list[str]:
    """Split a list at its commas; empty elements are left out."""
    return [part.strip() for part in text.split(",") if part.strip()]


class Settings(BaseModel):
    """Everything that can be set from outside, one field per variable (its upper-case name)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    etcd_endpoints: Annotated[str, Field(description="etcd members, `host:port`, separated by commas")] = (
        "127.0.0.1:2379"
    )
    message_queue_prefix: Annotated[
        str, Field(description="the prefix of every key in etcd; two pipelines can share one etcd under two")
    ] = "/telemetry"
    cluster_id: Annotated[
        str,
        Field(
            min_length=1, max_length=256, description="the cluster that uploaded records are said to be of"
        ),
    ] = "default"
    port: Annotated[
        int, Field(ge=1, le=65535, description="the port a function listens on (HTTP_PORT is read too)")
    ] = 8080
    max_upload_size: Annotated[int, Field(gt=0, description="the largest upload body, such as `2GiB`")] = (
        4 * 1024 * MIB
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="debug, info, warning or error")
    ] = "info"
    batch_size: Annotated[
        int, Field(ge=1, le=1_000_000, description="rows per request of `gpu-telemetry stream`")
    ] = 100
    poll_interval: Annotated[
        float, Field(gt=0, description="how often the queue source looks for messages it was not told of")
    ] = 5.0
    collect_workers: Annotated[
        int, Field(ge=1, le=32, description="threads with which one collect request drains the queue")
    ] = 2
    visibility_timeout: Annotated[
        float,
        Field(ge=2, le=30, description="how long a claim outlives a collector that died, at most `30s`"),
    ] = 30.0
    max_attempts: Annotated[
        int, Field(ge=1, le=1000, description="claims of a message before it becomes a dead letter")
    ] = 5
    max_queue_messages: Annotated[
        int, Field(ge=1, description="messages waiting at which uploads are refused (slowed down from half)")
    ] = 200_000
    max_queue_bytes: Annotated[
        int, Field(gt=0, description="bytes waiting at which uploads are refused (slowed down from half)")
    ] = 2 * 1024 * MIB
    etcd_quota_bytes: Annotated[
        int, Field(ge=0, description="etcd's quota, such as `8GiB`; 0 asks etcd's /metrics")
    ] = 0
    etcd_maintenance: Annotated[
        Literal["full", "compact", "off"],
        Field(
            description="the tick's care for etcd: `full`, `compact` (no defragmenting), `off` (shared etcd)"
        ),
    ] = "full"
    stale_after: Annotated[
        float, Field(gt=0, description="a GPU whose newest record is older than this is `stale`")
    ] = 300.0
    retention: Annotated[
        str,
        Field(pattern=r"^(\d+d|off)$", description="whole days that stored records are kept, or `off`"),
    ] = "7d"
    auth_tokens: Annotated[
        str,
        Field(description="a file of bearer tokens, a role and a token a line; empty: none are asked for"),
    ] = ""
    insecure: Annotated[
        bool, Field(description="`true`: without tokens serve not only this machine (loopback) but everybody")
    ] = False
    rate_limit: Annotated[
        float, Field(ge=0, description="requests a second of one client to one instance; 0: any number")
    ] = 100.0
    enable_cors: Annotated[
        bool, Field(description="`true`: let pages of CORS_ORIGINS ask from a browser")
    ] = False
    cors_origins: Annotated[
        str,
        Field(
            validate_default=True,
            description="origins such as `https://grafana.example`, separated by commas, or `*`",
        ),
    ] = ""
    max_query_range: Annotated[
        str,
        Field(
            pattern=r"^([1-9]\d{0,8}[smhdw]|off)$",
            description="the longest window of one query, such as `31d`, or `off`",
        ),
    ] = "off"
    max_query_rows: Annotated[
        int, Field(ge=1, description="records of one answer; what is more comes with a cursor")
    ] = 5_000_000
    max_query_time: Annotated[
        float, Field(gt=0, description="how long one answer may take; what is more comes with a cursor")
    ] = 60.0
    expected_gpus: Annotated[
        str,
        Field(description="GPUs a host should have: `8`, or `node-a=8,node-b=4`; empty: the most it has had"),
    ] = ""
    enable_websocket: Annotated[bool, Field(description="`false`: query serves no /ws")] = True
    websocket_timeout: Annotated[
        float,
        Field(gt=0, description="how long one WebSocket is served; less than timeoutSeconds of the manifest"),
    ] = 270.0
    enable_graphql: Annotated[bool, Field(description="`false`: query serves no /graphql")] = True
    metrics_port: Annotated[
        int, Field(ge=0, le=65535, description="where the queue source serves /metrics; 0: nowhere")
    ] = 0
    workers: Annotated[
        int, Field(ge=1, le=64, description="processes per instance (functions-framework's own)")
    ] = 1
    threads: Annotated[
        int, Field(ge=1, le=1024, description="threads per process (functions-framework's own)")
    ] = 8

    @field_validator("max_upload_size", "max_queue_bytes", "etcd_quota_bytes", mode="before")
    @classmethod
    def _size(cls, value: object) -> object:
        return parse_bytes(value) if isinstance(value, str) else value

    @field_validator(
        "poll_interval",
        "visibility_timeout",
        "stale_after",
        "max_query_time",
        "websocket_timeout",
        mode="before",
    )
    @classmethod
    def _duration(cls, value: object) -> object:
        return parse_duration_s(value) if isinstance(value, str) else value

    @field_validator("log_level", "etcd_maintenance", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("etcd_endpoints")
    @classmethod
    def _endpoints(cls, value: str) -> str:
        for endpoint in value.split(","):
            if re.fullmatch(r"(http://)?[^\s:/,]+:\d{1,5}", endpoint.strip()) is None:
                raise ValueError("expected host:port, several separated by commas")
        return value

    @field_validator("message_queue_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if re.fullmatch(r"(/[A-Za-z0-9._-]+)+", value) is None:
            raise ValueError("expected a path such as /telemetry (letters, digits, '.', '_', '-')")
        return value

    @field_validator("expected_gpus")
    @classmethod
    def _expected(cls, value: str) -> str:
        parse_expected_gpus(value)
        return value

    def expected(self) -> ExpectedGpus:
        """Return how many GPUs hosts should have."""
        return parse_expected_gpus(self.expected_gpus)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str, info: ValidationInfo) -> str:
        for origin in split_list(value):
            if origin != "*" and _ORIGIN.fullmatch(origin.lower()) is None:
                raise ValueError("expected origins such as https://grafana.example, without a path, or *")
        if info.data.get("enable_cors") and not split_list(value):
            raise ValueError("ENABLE_CORS needs origins, such as https://grafana.example, or *")
        return value

    def origins(self) -> list[str]:
        """List the origins whose pages may ask; none unless CORS is enabled."""
        return split_list(self.cors_origins.lower()) if self.enable_cors else []

    def endpoints(self) -> list[str]:
        """List the etcd members as `host:port`."""
        return [e.strip().removeprefix("http://") for e in self.etcd_endpoints.split(",")]


#: Other names under which a setting is read when its own is not set.
_ALSO = {"port": "HTTP_PORT"}


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment; an empty variable counts as not set.

    Raises:
        BadConfig: A value is not valid; names the variable, the value and what is expected.
    """
    env = os.environ if environ is None else environ
    given: dict[str, str] = {}
    for name in Settings.model_fields:
        value = env.get(name.upper()) or env.get(_ALSO.get(name, "")) or ""
        if value:
            given[name] = value
    try:
        return Settings.model_validate(given)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ")
        raise BadConfig(f"{name.upper()}={given.get(name, '')!r}: {reason}", name=name.upper()) from exc


@cache
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return read_settings()


def variables() -> frozenset[str]:
    """Name every variable that is a setting."""
    return frozenset([*(name.upper() for name in Settings.model_fields), *_ALSO.values()])


def read_variable(name: str, default: str = "") -> str:
    """Read a variable that Knative sets and an operator does not (K_SERVICE, K_REVISION, K_SINK)."""
    return os.environ.get(name, default)


def environment() -> dict[str, str]:
    """Copy the environment, to hand it to a child process."""
    return dict(os.environ)
