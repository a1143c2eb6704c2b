"""Python types as JSON schemas in an apispec document: apispec has no official plugin for pydantic."""

from __future__ import annotations

from typing import Any, Literal

from apispec import APISpec, BasePlugin
from pydantic import BaseModel, TypeAdapter

_REF = "#/components/schemas/{model}"


class PydanticPlugin(BasePlugin):
    """Turns types into schemas; the models in them become components of the document."""

    def init_spec(self, spec: APISpec) -> None:
        """Remember the document whose components they become."""
        super().init_spec(spec)
        self._spec = spec
        self._defined: dict[str, dict[str, Any]] = {}

    def schema_of(
        self, kind: Any, mode: Literal["validation", "serialization"] = "serialization"
    ) -> dict[str, Any]:
        """Build the schema of a type, as it is answered (serialization) or asked (validation).

        Raises:
            ValueError: Two different models have one name: a reader could not tell them apart.
        """
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            # A list's items become components by themselves, a model alone does not.
            return {"$ref": self._define(kind.__name__, TypeAdapter(kind), mode)}
        schema: dict[str, Any] = _strip(TypeAdapter(kind).json_schema(mode=mode, ref_template=_REF))
        self._lift(schema)
        return schema

    def properties_of(self, model: type[BaseModel]) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """List the members of a model that is asked, with their schemas, and which of them must be there."""
        schema = _strip(model.model_json_schema(mode="validation", ref_template=_REF))
        self._lift(schema)
        return schema.get("properties", {}), schema.get("required", [])

    def _define(
        self, name: str, adapter: TypeAdapter[Any], mode: Literal["validation", "serialization"]
    ) -> str:
        schema = _strip(adapter.json_schema(mode=mode, ref_template=_REF))
        self._lift(schema)
        self._add(name, schema)
        return _REF.format(model=name)

    def _lift(self, schema: dict[str, Any]) -> None:
        for name, definition in schema.pop("$defs", {}).items():
            self._add(name, definition)

    def _add(self, name: str, definition: dict[str, Any]) -> None:
        known = self._defined.setdefault(name, definition)
        if known != definition:
            raise ValueError(f"two models of the API are called {name}: rename one")
        if name not in self._spec.components.schemas:
            self._spec.components.schema(name, definition)


def _strip(schema: Any) -> Any:
    """Drop the titles that pydantic makes of names: they say nothing more."""
    if isinstance(schema, list):
        return [_strip(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _strip(member) for name, member in value.items()}
        if key in ("properties", "$defs")
        else _strip(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
