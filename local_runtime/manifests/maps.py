"""ConfigMaps and Secrets, from which variables come, and Namespaces, which have nothing to say here."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from local_runtime.manifests.cluster import NAME, NAMESPACE, ClusterSettings, parse_cluster
from local_runtime.manifests.metadata import MapMetadata, Metadata, Resource
from local_runtime.manifests.parts import NOTHING, Unread, build_mistake

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


class ConfigMap(Resource):
    """Settings by name: v1 ConfigMap."""

    api_version: Annotated[Literal["v1"], Field(alias="apiVersion")]
    kind: Literal["ConfigMap"]
    metadata: MapMetadata
    immutable: bool = False
    data: dict[str, str] = NOTHING
    #: Base64; no variable can be one of these.
    binary_data: Annotated[dict[str, str], Field(alias="binaryData")] = NOTHING

    _cluster: ClusterSettings | None = PrivateAttr(default=None)

    @property
    def cluster(self) -> ClusterSettings | None:
        """The settings of the cluster, where this is Knative's config-autoscaler."""
        return self._cluster

    @model_validator(mode="after")
    def _check(self) -> ConfigMap:
        _check_keys("data", self.data)
        _check_keys("binaryData", self.binary_data)
        for key, text in self.binary_data.items():
            if key in self.data:
                raise build_mistake(("binaryData", key), text, "stands in data too")
            if _decode(text) is None:
                raise build_mistake(("binaryData", key), text, "expected base64")
        return self

    @model_validator(mode="after")
    def _read_cluster(self) -> ConfigMap:
        namespace = self.metadata.namespace
        is_named = "namespace" in self.metadata.model_fields_set
        if self.metadata.name != NAME:
            if namespace == NAMESPACE:
                raise build_mistake(
                    ("metadata", "name"),
                    self.metadata.name,
                    f"of Knative's own settings only {NAME} is known",
                )
        elif is_named and namespace != NAMESPACE:
            raise build_mistake(
                ("metadata", "namespace"),
                namespace,
                f"expected {NAMESPACE}: Knative reads {NAME} nowhere else",
            )
        else:
            self._cluster = parse_cluster(self.data)
        return self


class Secret(Resource):
    """Settings that nobody should see: v1 Secret. No value is shown, in a mistake or otherwise."""

    model_config = ConfigDict(hide_input_in_errors=True)

    api_version: Annotated[Literal["v1"], Field(alias="apiVersion")]
    kind: Literal["Secret"]
    #: Not shown either: kubectl keeps what was applied last in an annotation.
    metadata: Annotated[MapMetadata, Field(repr=False)]
    type: str = "Opaque"
    immutable: bool = False
    #: Base64.
    data: Annotated[dict[str, SecretStr], Field(strict=False, repr=False)] = NOTHING
    string_data: Annotated[dict[str, SecretStr], Field(alias="stringData", repr=False)] = NOTHING

    @model_validator(mode="after")
    def _check(self) -> Secret:
        _check_keys("data", self.data)
        _check_keys("stringData", self.string_data)
        for key, text in self.data.items():
            if _decode(text.get_secret_value()) is None:
                raise build_mistake(("data", key), "", "expected base64 (stringData takes text as it is)")
        return self

    def read(self, key: str) -> bytes | None:
        """Return a value as it is; None: there is none. stringData goes before data, as in a cluster."""
        if key in self.string_data:
            return self.string_data[key].get_secret_value().encode()
        return _decode(self.data[key].get_secret_value()) if key in self.data else None

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all values."""
        return tuple(dict.fromkeys((*self.data, *self.string_data)))


class Namespace(Resource):
    """A namespace: accepted, and without meaning on one machine."""

    api_version: Annotated[Literal["v1"], Field(alias="apiVersion")]
    kind: Literal["Namespace"]
    metadata: Metadata
    spec: Unread = NOTHING


def _check_keys(path: str, values: dict[str, Any]) -> None:
    for key in values:
        if _KEY.fullmatch(key) is None:
            raise build_mistake((path, key), key, "expected a key of letters, digits, '-', '_' and '.'")


def _decode(text: str) -> bytes | None:
    """Decode base64, which may be broken into lines; None: it is none."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
