"""The manifests of deploy/knative, as far as the local runtime acts on them.

The very files that are deployed are read, strictly: what is not understood is refused, not ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import BadConfig


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class TemplateMetadata(_Part):
    """What is attached to each revision or pod."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Metadata(TemplateMetadata):
    """A resource's name, and what is attached to it."""

    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    namespace: str = "default"


class EnvironmentVariable(_Part):
    """One environment variable, by value; a quoted one, as Kubernetes wants it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: str = ""


class Container(_Part):
    """The one container of a pod; its image is not used locally, where the repository is the image."""

    name: str = ""
    image: str
    command: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    args: Annotated[tuple[str, ...], Field(strict=False)] = ()
    env: Annotated[tuple[EnvironmentVariable, ...], Field(strict=False)] = ()
    #: Named for whoever looks for them; what listens on them is told by the environment.
    ports: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    #: Probes, limits and rights are the cluster's business.
    resources: dict[str, Any] = {}
    readiness_probe: Annotated[dict[str, Any], Field(alias="readinessProbe")] = {}
    liveness_probe: Annotated[dict[str, Any], Field(alias="livenessProbe")] = {}
    security_context: Annotated[dict[str, Any], Field(alias="securityContext")] = {}

    def environment(self) -> dict[str, str]:
        """Return the environment variables by name."""
        return {variable.name: variable.value for variable in self.env}


class PodSpec(_Part):
    """What runs in a pod."""

    containers: Annotated[tuple[Container, ...], Field(strict=False, min_length=1, max_length=1)]


class RevisionSpec(PodSpec):
    """What every instance of a revision is like."""

    #: Requests at once per instance; 0: no limit.
    container_concurrency: Annotated[int, Field(alias="containerConcurrency", ge=0, le=1000)] = 0
    timeout_s: Annotated[int, Field(alias="timeoutSeconds", ge=1, le=600)] = 300


class RevisionTemplate(_Part):
    """The template of a Service's revisions."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: RevisionSpec


class ServiceSpec(_Part):
    """The spec of a Service."""

    template: RevisionTemplate


class Service(_Part):
    """A function: serving.knative.dev/v1 Service."""

    api_version: Annotated[Literal["serving.knative.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["Service"]
    metadata: Metadata
    spec: ServiceSpec

    @property
    def container(self) -> Container:
        """The container that runs."""
        return self.spec.template.spec.containers[0]


class Reference(_Part):
    """A Service by its name."""

    api_version: Annotated[Literal["serving.knative.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["Service"]
    name: str
    namespace: str = "default"


class Sink(_Part):
    """Where a source sends its events: a Service, an address, or a path below a Service's address."""

    ref: Reference | None = None
    uri: str = ""

    @model_validator(mode="after")
    def _some(self) -> Sink:
        if self.ref is None and not self.uri.startswith(("http://", "https://")):
            raise ValueError("expected a ref or an absolute uri")
        return self


class CloudEventOverrides(_Part):
    """What a source's events carry besides."""

    #: Extension attributes by name.
    extensions: dict[str, str] = {}


class PingSpec(_Part):
    """The spec of a PingSource."""

    schedule: str = "* * * * *"
    #: Empty: UTC, or the one the schedule begins with.
    timezone: str = ""
    content_type: Annotated[str, Field(alias="contentType")] = ""
    data: str = ""
    data_base64: Annotated[str, Field(alias="dataBase64")] = ""
    sink: Sink
    ce_overrides: Annotated[CloudEventOverrides, Field(alias="ceOverrides")] = CloudEventOverrides()


class PingSource(_Part):
    """A cron trigger: sources.knative.dev/v1 PingSource."""

    api_version: Annotated[Literal["sources.knative.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["PingSource"]
    metadata: Metadata
    spec: PingSpec


class PodTemplate(_Part):
    """The pod template of a ContainerSource."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: PodSpec


class ContainerSpec(_Part):
    """The spec of a ContainerSource."""

    sink: Sink
    ce_overrides: Annotated[CloudEventOverrides, Field(alias="ceOverrides")] = CloudEventOverrides()
    template: PodTemplate


class ContainerSource(_Part):
    """A program that sends events to K_SINK: sources.knative.dev/v1 ContainerSource."""

    api_version: Annotated[Literal["sources.knative.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["ContainerSource"]
    metadata: Metadata
    spec: ContainerSpec

    @property
    def container(self) -> Container:
        """The container that runs."""
        return self.spec.template.spec.containers[0]


Manifest = Service | PingSource | ContainerSource
_KINDS: dict[tuple[str, str], type[Manifest]] = {
    ("serving.knative.dev/v1", "Service"): Service,
    ("sources.knative.dev/v1", "PingSource"): PingSource,
    ("sources.knative.dev/v1", "ContainerSource"): ContainerSource,
}


class Manifests(BaseModel):
    """Everything a folder of manifests describes, each kind in the order of file names."""

    model_config = ConfigDict(frozen=True)

    services: tuple[Service, ...] = ()
    ping_sources: tuple[PingSource, ...] = ()
    container_sources: tuple[ContainerSource, ...] = ()


def read_manifests(folder: Path) -> Manifests:
    """Read every *.yaml of a folder, kustomization.yaml left out.

    Raises:
        BadConfig: Not readable, not understood, a name used twice, or no Service at all.
    """
    files = sorted(file for file in folder.glob("*.yaml") if file.name != "kustomization.yaml")
    if not files:
        raise BadConfig(f"there are no manifests (*.yaml) in {folder}")
    found = [manifest for file in files for manifest in parse_manifests(_read(file), file.name)]
    seen: set[tuple[str, str]] = set()
    for manifest in found:
        identity = (manifest.kind, manifest.metadata.name)
        if identity in seen:
            raise BadConfig(f"{folder}: there are two of kind {identity[0]} named {identity[1]!r}")
        seen.add(identity)
    manifests = Manifests(
        services=tuple(m for m in found if isinstance(m, Service)),
        ping_sources=tuple(m for m in found if isinstance(m, PingSource)),
        container_sources=tuple(m for m in found if isinstance(m, ContainerSource)),
    )
    if not manifests.services:
        raise BadConfig(f"{folder} has no Service: there is nothing to start")
    return manifests


def parse_manifests(text: str, file_name: str) -> list[Manifest]:
    """Parse the documents of one file.

    Raises:
        BadConfig: Names the file, the path in the document and the value.
    """
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.YAMLError as exc:
        raise BadConfig(f"{file_name}: not YAML: {' '.join(str(exc).split())}") from exc
    return [_parse_document(document, file_name) for document in documents]


def _parse_document(document: Any, file_name: str) -> Manifest:
    if not isinstance(document, dict):
        raise BadConfig(f"{file_name}: expected a Kubernetes resource, not {document!r:.60}")
    identity = (str(document.get("apiVersion")), str(document.get("kind")))
    model = _KINDS.get(identity)
    if model is None:
        kinds = ", ".join(f"{kind} of {version}" for version, kind in _KINDS)
        raise BadConfig(f"{file_name}: kind {identity[1]!r} of {identity[0]!r} is not one of {kinds}")
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        first = exc.errors()[0]
        path = ".".join(str(step) for step in first["loc"]) or "the document"
        reason = first["msg"].removeprefix("Value error, ")
        value = "" if first["type"] == "missing" else f", not {first['input']!r:.80}"
        raise BadConfig(f"{file_name}: {path}: {reason}{value}") from exc


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadConfig(f"{file.name}: cannot be read: {exc}") from exc
