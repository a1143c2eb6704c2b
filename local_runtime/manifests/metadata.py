"""Names, labels and annotations of resources."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from local_runtime.manifests.parts import NOTHING, Many, Part, Unread, build_mistake

VISIBILITY = "networking.knative.dev/visibility"
AUTOSCALING = "autoscaling.knative.dev/"


def spell(annotation: str) -> str:
    """Return today's spelling of an annotation of the autoscaler: minScale is what min-scale was called."""
    return re.sub("[A-Z]", lambda letter: f"-{letter[0].lower()}", annotation)


Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
#: ConfigMaps and Secrets may have dots in theirs.
DottedName = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)]
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class TemplateMetadata(Part):
    """What is attached to each revision or pod; the rest is what `kubectl get` adds."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = NOTHING
    annotations: dict[str, str] = NOTHING
    finalizers: Many[str] = ()
    creation_timestamp: Annotated[JsonValue, Field(alias="creationTimestamp")] = None


class ServerMetadata(TemplateMetadata):
    """What the API server writes into a resource, as `kubectl get -o yaml` shows it; read past."""

    generate_name: Annotated[str, Field(alias="generateName")] = ""
    uid: str = ""
    resource_version: Annotated[str, Field(alias="resourceVersion")] = ""
    generation: int = 0
    self_link: Annotated[str, Field(alias="selfLink")] = ""
    owner_references: Annotated[JsonValue, Field(alias="ownerReferences")] = None
    managed_fields: Annotated[JsonValue, Field(alias="managedFields")] = None


class Metadata(ServerMetadata):
    """A resource's name, and what is attached to it."""

    name: Name
    namespace: Namespace = "default"


class MapMetadata(ServerMetadata):
    """The metadata of a ConfigMap or Secret."""

    name: DottedName
    namespace: Namespace = "default"


class ServiceMetadata(Metadata):
    """The metadata of a Service."""

    @model_validator(mode="after")
    def _check_autoscaling(self) -> ServiceMetadata:
        for key, value in self.annotations.items():
            if key.startswith(AUTOSCALING):
                raise build_mistake(
                    ("annotations", key), value, "belongs under spec.template.metadata.annotations"
                )
        visibility = self.labels.get(VISIBILITY, "cluster-local")
        if visibility != "cluster-local":
            raise build_mistake(("labels", VISIBILITY), visibility, "expected cluster-local or no such label")
        return self


class Resource(Part):
    """What every kind has in common."""

    #: Where a cluster says how things are; it has no say in how they should be.
    status: Unread = NOTHING
