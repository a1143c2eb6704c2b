"""Environment variables: by value or from ConfigMaps and Secrets, put together as Kubernetes does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

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

#: Builds the error about a path of the container.
Mistake = Callable[[Path, str], BadConfig]

_Key = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$")]
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
        name, namespace = self.metadata.name, self.metadata.namespace
        if name != CLUSTER_NAME and namespace == CLUSTER_NAMESPACE:
            expected = f"of Knative's own settings only {CLUSTER_NAME} is known"
            raise build_mistake(("metadata", "name"), name, expected)
        if name == CLUSTER_NAME and namespace not in {CLUSTER_NAMESPACE, "default"}:
            expected = f"expected {CLUSTER_NAMESPACE}: Knative reads {CLUSTER_NAME} nowhere else"
            raise build_mistake(("metadata", "namespace"), namespace, expected)
        # Raises what is wrong with the settings.
        _ = self.cluster
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


class _Source(Part):
    """One of two: a ConfigMap or a Secret."""

    def pick(self) -> tuple[str, _MapReference]:
        """Return the key in the manifest of what is referred to, and the reference; ValueError: not one."""
        there = {str(f.alias): getattr(self, name) for name, f in type(self).model_fields.items()}
        found = [(alias, value) for alias, value in there.items() if isinstance(value, _MapReference)]
        if len(found) != 1:
            raise ValueError(f"expected one of {' and '.join(alias for alias in there if 'Ref' in alias)}")
        return found[0]

    @model_validator(mode="after")
    def _check_one(self) -> _Source:
        self.pick()
        return self


class ValueSource(_Source):
    """Where the value of a variable is from."""

    config_map_key_ref: _KeyReference | None = None
    secret_key_ref: _KeyReference | None = None


class EnvironmentSource(_Source):
    """All variables of a ConfigMap or Secret."""

    prefix: str = ""
    config_map_ref: _MapReference | None = None
    secret_ref: _MapReference | None = None


class EnvironmentVariable(Part):
    """One environment variable; a quoted value, as Kubernetes wants it."""

    name: Annotated[str, Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    value: str = ""
    value_from: ValueSource | None = None

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


def resolve_environment(
    sources: Iterable[EnvironmentSource],
    variables: Iterable[EnvironmentVariable],
    maps: Iterable[ConfigMap | Secret],
    mistake: Mistake,
) -> dict[str, str]:
    """Put together the variables of a container: envFrom in its order, then env over it.

    Raises:
        BadConfig: What is referred to is not there; shows no value.
    """
    resolver = _Resolver(maps, mistake)
    found: dict[str, str] = {}
    for i, source in enumerate(sources):
        path, of, values = resolver.find(("envFrom", i), source)
        found |= {source.prefix + key: resolver.text(path, key + of, raw) for key, raw in values.items()}
    for i, variable in enumerate(variables):
        if variable.value_from is None:
            raw = expand_references(variable.value, found).encode()
            found[variable.name] = resolver.text(("env", i, "value"), variable.name, raw)
        else:
            value = resolver.value(("env", i, "valueFrom"), variable.value_from)
            found |= {} if value is None else {variable.name: value}
    return found


class _Resolver:
    """Looks values up in ConfigMaps and Secrets."""

    def __init__(self, maps: Iterable[ConfigMap | Secret], mistake: Mistake) -> None:
        self._maps = {(found.kind, found.metadata.name): found for found in maps}
        self._mistake = mistake

    def find(self, path: Path, source: ValueSource | EnvironmentSource) -> tuple[Path, str, dict[str, bytes]]:
        """Return the path of a reference, the words for what it means, and the values that are there."""
        alias, reference = source.pick()
        kind = "ConfigMap" if alias.startswith("configMap") else "Secret"
        found = self._maps.get((kind, reference.name))
        if found is None and not reference.optional:
            there = ", ".join(sorted(name for of, name in self._maps if of == kind)) or "none"
            said = f"there is no {kind} {reference.name!r} in the folder (in this namespace there is {there})"
            raise self._mistake((*path, alias, "name"), said)
        return (*path, alias), f" of the {kind} {reference.name!r}", found.values() if found else {}

    def value(self, path: Path, source: ValueSource) -> str | None:
        """Return the value of a variable; None: it is optional, and there is none."""
        path, of, values = self.find(path, source)
        reference = source.config_map_key_ref or source.secret_key_ref
        if reference is None or (reference.optional and reference.key not in values):
            return None
        if reference.key not in values:
            there = ", ".join(sorted(values)) or "none"
            raise self._mistake((*path, "key"), f"there is no {reference.key!r}{of}, only {there}")
        return self.text(path, reference.key + of, values[reference.key])

    def text(self, path: Path, said: str, raw: bytes) -> str:
        """Return a value as a process can have it in its environment."""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise self._mistake(path, f"{said} is not UTF-8 text") from None
        if "\0" in text:
            raise self._mistake(path, f"{said} has a zero byte")
        return text
