"""Environment variables of a container: by value, or from a ConfigMap or Secret."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from local_runtime.manifests.parts import Part, build_mistake


class KeyReference(Part):
    """A key of a ConfigMap or Secret."""

    name: str = ""
    key: str
    optional: bool = False


class MapReference(Part):
    """A whole ConfigMap or Secret."""

    name: str = ""
    optional: bool = False


class ValueSource(Part):
    """Where the value of a variable is from."""

    config_map_key_ref: Annotated[KeyReference | None, Field(alias="configMapKeyRef")] = None
    secret_key_ref: Annotated[KeyReference | None, Field(alias="secretKeyRef")] = None
    field_ref: Annotated[JsonValue, Field(alias="fieldRef")] = None
    resource_field_ref: Annotated[JsonValue, Field(alias="resourceFieldRef")] = None

    @model_validator(mode="after")
    def _check_one(self) -> ValueSource:
        for alias, value in (("fieldRef", self.field_ref), ("resourceFieldRef", self.resource_field_ref)):
            if value is not None:
                raise build_mistake(
                    (alias,), {}, "has no value locally, where there is no pod: --set NAME.env.VARIABLE=VALUE"
                )
        if (self.config_map_key_ref is None) == (self.secret_key_ref is None):
            raise ValueError("expected one of configMapKeyRef and secretKeyRef")
        return self


class EnvironmentVariable(Part):
    """One environment variable; a quoted value, as Kubernetes wants it."""

    name: Annotated[str, Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    value: str = ""
    value_from: Annotated[ValueSource | None, Field(alias="valueFrom")] = None

    @model_validator(mode="after")
    def _check_one(self) -> EnvironmentVariable:
        if self.value and self.value_from is not None:
            raise build_mistake(("value",), self.value, "expected value or valueFrom, not both")
        if "\0" in self.value:
            raise build_mistake(("value",), self.value, "expected text without a zero byte")
        return self


class EnvironmentSource(Part):
    """All variables of a ConfigMap or Secret."""

    prefix: str = ""
    config_map_ref: Annotated[MapReference | None, Field(alias="configMapRef")] = None
    secret_ref: Annotated[MapReference | None, Field(alias="secretRef")] = None

    @model_validator(mode="after")
    def _check_one(self) -> EnvironmentSource:
        if (self.config_map_ref is None) == (self.secret_ref is None):
            raise ValueError("expected one of configMapRef and secretRef")
        return self
