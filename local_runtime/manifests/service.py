"""Functions: serving.knative.dev/v1 Service."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from local_runtime.manifests.cluster import ClusterSettings
from local_runtime.manifests.container import FunctionContainer
from local_runtime.manifests.metadata import VISIBILITY, Resource, ServiceMetadata, TemplateMetadata
from local_runtime.manifests.parts import Many, Part, build_mistake
from local_runtime.manifests.pods import RevisionSpec
from local_runtime.manifests.scaling import Scaling, parse_scaling

_WHOLE = 100


class RevisionMetadata(TemplateMetadata):
    """What is attached to each revision; the annotations say how it scales."""

    _scaling: Scaling = PrivateAttr(default_factory=Scaling)

    @property
    def scaling(self) -> Scaling:
        """How the revision scales, the cluster's settings where it does not say."""
        return self._scaling

    @model_validator(mode="after")
    def _read_scaling(self, info: ValidationInfo) -> RevisionMetadata:
        cluster = info.context if isinstance(info.context, ClusterSettings) else ClusterSettings()
        self._scaling = parse_scaling(self.annotations, cluster)
        return self


class RevisionTemplate(Part):
    """The template of a Service's revisions."""

    metadata: RevisionMetadata = Field(default_factory=lambda: RevisionMetadata.model_validate({}))
    spec: RevisionSpec


class TrafficTarget(Part):
    """A share of the requests."""

    latest_revision: Annotated[bool | None, Field(alias="latestRevision")] = None
    revision_name: Annotated[str, Field(alias="revisionName")] = ""
    #: Another name of the share's own address; it has none locally.
    tag: str = ""
    percent: Annotated[int, Field(ge=0, le=_WHOLE)] = 0

    @model_validator(mode="after")
    def _check_latest(self) -> TrafficTarget:
        if self.revision_name or self.latest_revision is False:
            path = "revisionName" if self.revision_name else "latestRevision"
            value: object = self.revision_name or self.latest_revision
            raise build_mistake(
                (path,), value, "locally there is one revision: expected latestRevision: true"
            )
        return self


class ServiceSpec(Part):
    """The spec of a Service."""

    template: RevisionTemplate
    traffic: Many[TrafficTarget] = ()

    @model_validator(mode="after")
    def _check_traffic(self) -> ServiceSpec:
        total = sum(target.percent for target in self.traffic)
        if self.traffic and total != _WHOLE:
            raise build_mistake(("traffic",), total, "expected shares that add up to 100")
        return self


class Service(Resource):
    """A function."""

    api_version: Annotated[Literal["serving.knative.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["Service"]
    metadata: ServiceMetadata
    spec: ServiceSpec

    @property
    def container(self) -> FunctionContainer:
        """The container that runs."""
        return self.spec.template.spec.containers[0]

    @property
    def scaling(self) -> Scaling:
        """How it scales."""
        return self.spec.template.metadata.scaling

    @property
    def revision_name(self) -> str:
        """The name of its one revision."""
        return self.spec.template.metadata.name or f"{self.metadata.name}-00001"

    @property
    def is_cluster_local(self) -> bool:
        """Whether it is kept off the public gateway."""
        return self.metadata.labels.get(VISIBILITY) == "cluster-local"

    @model_validator(mode="after")
    def _check_revision_name(self) -> Service:
        if not self.revision_name.startswith(f"{self.metadata.name}-"):
            raise build_mistake(
                ("spec", "template", "metadata", "name"),
                self.revision_name,
                f"expected a name that begins with {self.metadata.name}-",
            )
        return self
