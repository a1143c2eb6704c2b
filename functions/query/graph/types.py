"""GraphQL types from the API's declarations: what REST answers and takes, under the same names.

The declarations are pydantic models; this reads their JSON Schema. An object of fixed members becomes an
object type of their names, one of free members becomes JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLError,
    GraphQLField,
    GraphQLFloat,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLString,
)
from pydantic import TypeAdapter

from shared.api.endpoint import Endpoint

Schema = Mapping[str, Any]
#: Fields to add to object types, by the type's name; asked once the types exist.
Additions = Callable[[str], dict[str, GraphQLField]]


def _parse_long(value: Any) -> int:
    """Take a whole number and nothing that looks like one: what a query costs is told by it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise GraphQLError(f"Long cannot represent {value!r}: expected a whole number")
    return value


JSON = GraphQLScalarType("JSON", description="Any JSON value: members that depend on what was uploaded.")
#: GraphQL's own Int ends at 2^31, which bytes and milliseconds exceed.
LONG = GraphQLScalarType("Long", description="A whole number of up to 64 bits.", parse_value=_parse_long)
_SCALARS = {"string": GraphQLString, "integer": LONG, "number": GraphQLFloat, "boolean": GraphQLBoolean}


class Types:
    """Makes types, each once by its name."""

    def __init__(self, additions: Additions) -> None:
        self._additions = additions
        self._objects: dict[str, GraphQLObjectType] = {}

    def build_output(self, shape: Any) -> Any:
        """Make the type of a part of an answer, such as list[Gpu]."""
        schema = TypeAdapter(shape).json_schema(mode="serialization")
        return self._output(schema, schema.get("$defs", {}))

    def _output(self, schema: Schema, models: Mapping[str, Schema]) -> Any:
        """Make a type; one that cannot be null is marked so."""
        if "anyOf" in schema:
            members = [s for s in schema["anyOf"] if s.get("type") != "null"]
            made = JSON if len(members) != 1 else self._output(members[0], models)
            nullable = len(members) < len(schema["anyOf"])
            return made.of_type if nullable and isinstance(made, GraphQLNonNull) else made
        if "$ref" in schema:
            schema = models[schema["$ref"].rpartition("/")[2]]
        kind = schema.get("type") or ("string" if "enum" in schema or "const" in schema else "")
        if kind == "array" and "items" in schema:
            return GraphQLNonNull(GraphQLList(self._output(schema["items"], models)))
        if kind == "object" and schema.get("properties"):
            return GraphQLNonNull(self._object(schema, models))
        return GraphQLNonNull(_SCALARS.get(kind, JSON))

    def _object(self, schema: Schema, models: Mapping[str, Schema]) -> GraphQLObjectType:
        name = schema["title"]
        if name not in self._objects:

            def fields() -> dict[str, GraphQLField]:
                own = {
                    key: GraphQLField(self._output(part, models), description=part.get("description"))
                    for key, part in schema["properties"].items()
                }
                return own | self._additions(name)

            self._objects[name] = GraphQLObjectType(name, fields, description=schema.get("description"))
        return self._objects[name]


def build_arguments(endpoint: Endpoint, *, without: frozenset[str]) -> dict[str, GraphQLArgument]:
    """Make the arguments that an endpoint's parameters are given as; the endpoint's model reads them."""
    schema = endpoint.parameters.model_json_schema(mode="validation")
    required = schema.get("required", ())
    out = {}
    for name, part in schema.get("properties", {}).items():
        if name not in without:
            kind = _input(part)
            given = GraphQLNonNull(kind) if name in required else kind
            out[name] = GraphQLArgument(given, description=part.get("description"))
    return out


def _input(schema: Schema) -> Any:
    for member in schema.get("anyOf", ()):
        if member.get("type") != "null":
            return _input(member)
    if schema.get("type") == "array":
        return GraphQLList(GraphQLNonNull(GraphQLString))
    return _SCALARS.get(schema.get("type", "string"), GraphQLString)
