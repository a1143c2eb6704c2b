"""Environment variables: by value or from ConfigMaps and Secrets, put together as Kubernetes does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from local_runtime.manifests.parts import (
    NO_VALUE,
    NOTHING,
    Metadata,
    Part,
    Path,
    Resource,
    build_mistake,
    decode_base64,
)
from local_runtime.manifests.scaling import CLUSTER_NAME, CLUSTER_NAMESPACE, ClusterSettings, parse_cluster
from shared.errors import BadConfig

_Key = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$")]
_Source = Literal["configMapKeyRef", "secretKeyRef"]
_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")


class MapMetadata(Metadata):
    """The metadata of a ConfigMap or Secret, whose names may have dots."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)]


class ConfigMap(Resource):
    """Settings by name: v1 ConfigMap; no variable can be one of binaryData."""

    READ_PAST = f"{Resource.READ_PAST} immutable binaryData"
    metadata: MapMetadata
    data: dict[_Key, str] = NOTHING

    @property
    def cluster(self) -> ClusterSettings | None:
        """The settings of the cluster, where this is Knative's config-autoscaler."""
        return parse_cluster(self.data) if self.metadata.name == CLUSTER_NAME else None

    @model_validator(mode="after")
    def _check_cluster(self) -> ConfigMap:
        namespace, is_cluster = self.metadata.namespace, self.cluster is not None
        if namespace == CLUSTER_NAMESPACE and not is_cluster:
            expected = f"of Knative's own settings only {CLUSTER_NAME} is known"
            raise build_mistake(("metadata", "name"), self.metadata.name, expected)
        if is_cluster and namespace not in {CLUSTER_NAMESPACE, "default"}:
            expected = f"expected {CLUSTER_NAMESPACE}: Knative reads {CLUSTER_NAME} nowhere else"
            raise build_mistake(("metadata", "namespace"), namespace, expected)
        return self

    def values(self) -> dict[str, bytes]:
        """Return all values as they are."""
        return {key: text.encode() for key, text in self.data.items()}


class Secret(Resource):
    """Settings that nobody should see: v1 Secret. No value is shown, in a mistake or otherwise."""

    READ_PAST = f"{Resource.READ_PAST} immutable type"
    #: Not shown either: kubectl keeps what was applied last in an annotation.
    metadata: Annotated[MapMetadata, Field(repr=False)]
    data: Annotated[dict[_Key, str], Field(repr=False)] = NOTHING
    string_data: Annotated[dict[_Key, str], Field(repr=False)] = NOTHING

    @model_validator(mode="after")
    def _check(self) -> Secret:
        for key, text in self.data.items():
            try:
                decode_base64(text)
            except ValueError:
                expected = "expected base64 (stringData takes text as it is)"
                raise build_mistake(("data", key), NO_VALUE, expected) from None
        return self

    def values(self) -> dict[str, bytes]:
        """Return all values as they are; stringData goes before data, as in a cluster."""
        data = {key: decode_base64(text) for key, text in self.data.items()}
        return data | {key: text.encode() for key, text in self.string_data.items()}


class _MapReference(Part):
    name: str = ""
    optional: bool = False


class _KeyReference(_MapReference):
    key: str


class EnvironmentSource(Part):
    """All variables of a ConfigMap or Secret."""

    prefix: str = ""
    config_map_ref: _MapReference | None = None
    secret_ref: _MapReference | None = None

    @model_validator(mode="after")
    def _check_one(self) -> EnvironmentSource:
        if (self.config_map_ref is None) == (self.secret_ref is None):
            raise ValueError("expected one of configMapRef and secretRef")
        return self


class EnvironmentVariable(Part):
    """One environment variable; a quoted value, as Kubernetes wants it."""

    name: Annotated[str, Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    value: str = ""
    value_from: Annotated[dict[_Source, _KeyReference], Field(min_length=1, max_length=1)] | None = None

    @model_validator(mode="after")
    def _check_one(self) -> EnvironmentVariable:
        if self.value and self.value_from is not None:
            raise build_mistake(("value",), self.value, "expected value or valueFrom, not both")
        return self


def expand_references(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` as Kubernetes does in values, commands and arguments.

    `$$` is a `$`; the name of no variable stays as it is.
    """
    return _REFERENCE.sub(lambda found: "$" if found[1] == "$" else variables.get(found[2], found[0]), text)


class Resolver:
    """Looks values up in ConfigMaps and Secrets; no error shows one."""

    def __init__(self, maps: Iterable[ConfigMap | Secret], mistake: Callable[[Path, str], BadConfig]) -> None:
        """Take what there is in a namespace, and what builds the error about a path of a container."""
        self._maps = {(found.kind, found.metadata.name): found for found in maps}
        self._mistake = mistake

    def resolve(
        self, sources: Iterable[EnvironmentSource], variables: Iterable[EnvironmentVariable]
    ) -> dict[str, str]:
        """Put together the variables of a container: envFrom in its order, then env over it.

        Raises:
            BadConfig: What is referred to is not there, or no text.
        """
        found: dict[str, str] = {}
        path: Path
        for i, source in enumerate(sources):
            for alias, of in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref)):
                path = ("envFrom", i, alias)
                values = self._find(path, of) if of else {}
                found |= {source.prefix + key: self._decode(path, key, raw) for key, raw in values.items()}
        for i, variable in enumerate(variables):
            if variable.value_from is None:
                raw = expand_references(variable.value, found).encode()
                found[variable.name] = self._decode(("env", i, "value"), variable.name, raw)
            for alias, reference in (variable.value_from or {}).items():
                path = ("env", i, "valueFrom", alias)
                values, key = self._find(path, reference), reference.key
                if key in values:
                    found[variable.name] = self._decode(path, key, values[key])
                elif not reference.optional:
                    there = ", ".join(sorted(values)) or "none"
                    raise self._mistake((*path, "key"), f"{reference.name!r} has no {key!r}; it has {there}")
        return found

    def _find(self, path: Path, reference: _MapReference) -> dict[str, bytes]:
        """Return the values of what is referred to at a path; none where it is optional and not there."""
        kind = "ConfigMap" if str(path[-1]).startswith("configMap") else "Secret"
        found = self._maps.get((kind, reference.name))
        if found is None and not reference.optional:
            there = ", ".join(sorted(name for of, name in self._maps if of == kind)) or "none"
            said = f"there is no {kind} {reference.name!r} in the folder (in this namespace there is {there})"
            raise self._mistake((*path, "name"), said)
        return found.values() if found else {}

    def _decode(self, path: Path, key: str, raw: bytes) -> str:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise self._mistake(path, f"{key!r} is not UTF-8 text") from None
        if "\0" in text:
            raise self._mistake(path, f"{key!r} has a zero byte")
        return text
