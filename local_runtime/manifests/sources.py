"""Sources of events: PingSource and ContainerSource."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Literal, NoReturn

from pydantic import Field, field_validator, model_validator

from local_runtime.cron import parse_schedule, parse_timezone
from local_runtime.manifests.container import SourceContainer
from local_runtime.manifests.metadata import Metadata, Resource, TemplateMetadata
from local_runtime.manifests.parts import NOTHING, Part, build_mistake
from local_runtime.manifests.pods import SourcePod

_JSON = "application/json"


class Reference(Part):
    """A Service by its name."""

    api_version: Annotated[Literal["serving.knative.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["Service"]
    name: Annotated[str, Field(min_length=1)]
    namespace: str = ""


class Sink(Part):
    """Where a source sends its events: a Service, an address, or a path below a Service's address."""

    ref: Reference | None = None
    uri: str = ""
    ca_certs: Annotated[str, Field(alias="CACerts")] = ""
    audience: str = ""

    @model_validator(mode="after")
    def _check_some(self) -> Sink:
        absolute = self.uri.startswith(("http://", "https://"))
        if self.ref is None and not absolute:
            raise ValueError("expected a ref or an absolute uri")
        if self.ref is not None and self.uri and not self.uri.startswith("/"):
            raise build_mistake(("uri",), self.uri, "expected a path such as /events beside a ref")
        return self


class CloudEventOverrides(Part):
    """What every event of a source is given."""

    #: Attributes beside those of the standard.
    extensions: dict[str, str] = NOTHING

    @field_validator("extensions")
    @classmethod
    def _check_names(cls, extensions: dict[str, str]) -> dict[str, str]:
        for name, value in extensions.items():
            if not (name.isascii() and name.isalnum()):
                raise build_mistake((name,), value, "expected a name of letters and digits")
        return extensions


class SourceSpec(Part):
    """What all sources have."""

    sink: Sink
    ce_overrides: Annotated[CloudEventOverrides, Field(alias="ceOverrides")] = CloudEventOverrides()


class PingSpec(SourceSpec):
    """The spec of a PingSource."""

    schedule: str = "* * * * *"
    #: Empty: UTC, or the one the schedule begins with.
    timezone: str = ""
    content_type: Annotated[str, Field(alias="contentType")] = ""
    data: str = ""
    data_base64: Annotated[str, Field(alias="dataBase64")] = ""

    @model_validator(mode="after")
    def _check(self) -> PingSpec:
        try:
            parse_timezone(self.timezone or "UTC")
        except ValueError as exc:
            raise build_mistake(("timezone",), self.timezone, str(exc)) from None
        # A time zone that the manifest does not name may stand in the schedule.
        try:
            parse_schedule(self.schedule, self.timezone if "timezone" in self.model_fields_set else "")
        except ValueError as exc:
            raise build_mistake(("schedule",), self.schedule, str(exc)) from None
        if self.data and self.data_base64:
            raise build_mistake(("dataBase64",), self.data_base64, "exclude each other: data and dataBase64")
        path = "dataBase64" if self.data_base64 else "data"
        try:
            body = self.read_body()
            if self.content_type == _JSON and body:
                _check_object(body)
        except ValueError as exc:
            raise build_mistake((path,), self.data_base64 or self.data, str(exc)) from None
        return self

    def read_body(self) -> bytes:
        """Return the body of every event.

        Raises:
            ValueError: Not base64.
        """
        if not self.data_base64:
            return self.data.encode()
        # Lines may be broken, as `base64` does.
        return base64.b64decode(self.data_base64.replace("\r", "").replace("\n", ""), validate=True)


def _check_object(body: bytes) -> None:
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"data of {_JSON} is not JSON: {exc}") from None
    if not isinstance(value, dict | None):
        # pydantic takes no other error for a mistake.
        raise ValueError(f"data of {_JSON} must be a JSON object")  # noqa: TRY004


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class PingSource(Resource):
    """A cron trigger: sources.knative.dev/v1 PingSource."""

    api_version: Annotated[Literal["sources.knative.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["PingSource"]
    metadata: Metadata
    spec: PingSpec


class PodTemplate(Part):
    """The pod template of a ContainerSource."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: SourcePod


class ContainerSpec(SourceSpec):
    """The spec of a ContainerSource."""

    template: PodTemplate


class ContainerSource(Resource):
    """A program that sends events to K_SINK: sources.knative.dev/v1 ContainerSource."""

    api_version: Annotated[Literal["sources.knative.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["ContainerSource"]
    metadata: Metadata
    spec: ContainerSpec

    @property
    def container(self) -> SourceContainer:
        """The container that runs."""
        return self.spec.template.spec.containers[0]
