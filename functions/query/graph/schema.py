"""The GraphQL schema: each question is a REST endpoint, asked through its own handler.

So validation, limits, caches and outages are the same through both doors. Of records only those fields are
read that the query selects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Request
from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLFloat,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    GraphQLString,
    InlineFragmentNode,
    SelectionSetNode,
    get_named_type,
)
from werkzeug.test import EnvironBuilder

from functions.query.graph.limits import ASSUMED
from functions.query.graph.types import JSON, LONG, Types, build_arguments
from shared.api.endpoint import Endpoint
from shared.fields import FIELDS
from shared.http import Route, validate_parameters
from shared.records import LABELS

_PREFIX = "/api/v1/"
#: REST paths that are fields of Query, by their name.
_TOP = {
    "gpus": "gpus",
    "gpu": "gpus/{gpu}",
    "hosts": "hosts",
    "telemetry": "telemetry",
    "latest": "telemetry/latest",
    "fields": "fields",
    "clusters": "clusters",
    "stats": "stats",
}
#: Questions below an object: by its type and the field's name the path, and which argument it answers itself.
_BELOW = {
    ("Gpu", "telemetry"): ("gpus/{gpu}/telemetry", "gpu", "uuid"),
    ("GpuDetail", "telemetry"): ("gpus/{gpu}/telemetry", "gpu", "uuid"),
    ("Host", "gpus"): ("hosts/{hostname}/gpus", "hostname", "hostname"),
}
#: Arguments that REST has for its own sake.
_NOT_ARGUMENTS = frozenset({"format", "fields"})
_TIMES = ("start_time", "end_time")


@dataclass(frozen=True, slots=True)
class Question:
    """A REST endpoint as a field: `own` is an argument answered by the object it stands below."""

    route: Route
    own: tuple[str, str] | None = None

    @property
    def endpoint(self) -> Endpoint:
        """What is declared."""
        return self.route.endpoint

    @property
    def paged(self) -> bool:
        """Tell whether the answer comes in pages, with where it goes on beside it."""
        return "next" in self.endpoint.answers[0].beside

    def resolve(self, above: Any, info: GraphQLResolveInfo[Any], **given: Any) -> Any:
        """Ask the endpoint."""
        # Null is as good as nothing; numbers as texts, as REST has them: so they are held against its bounds.
        given = {name: _as_text(value) for name, value in given.items() if value is not None}
        if self.own is not None:
            name, member = self.own
            if above[member] is None:
                return [] if not self.paged else {"data": [], "count": 0, "next": None}
            given[name] = above[member]
        known = self.endpoint.parameters.model_fields
        if "limit" in known:
            given.setdefault("limit", ASSUMED)
        if "fields" in known:
            selected = self._selected(info)
            if selected:
                given["fields"] = tuple(selected)
        parameters = validate_parameters(self.endpoint, given)
        # A cursor is of a question whose times it knows as they were written.
        times = {name: given[name] for name in _TIMES if given.get(name) is not None}
        request = Request(EnvironBuilder(path=self.endpoint.path, query_string=times).get_environ())
        answer = orjson.loads(self.route.handler(request, parameters).get_data())
        return answer if self.paged else answer["data"]

    def _selected(self, info: GraphQLResolveInfo[Any]) -> list[str]:
        """List the fields of records that the query selects; none where it may be any."""
        names = _names_of(info.field_nodes, info, below="data" if self.paged else None)
        return [] if "other" in names else sorted(names & {*FIELDS, *LABELS})


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _names_of(nodes: Sequence[FieldNode], info: GraphQLResolveInfo[Any], below: str | None) -> set[str]:
    """Collect the names selected below fields, or below their field `below`; fragments are followed."""
    found: list[FieldNode] = []

    def walk(selected: SelectionSetNode | None) -> None:
        for node in () if selected is None else selected.selections:
            if isinstance(node, FieldNode):
                found.append(node)
            elif isinstance(node, InlineFragmentNode):
                walk(node.selection_set)
            elif isinstance(node, FragmentSpreadNode):
                walk(info.fragments[node.name.value].selection_set)

    for node in nodes:
        walk(node.selection_set)
    if below is None:
        return {node.name.value for node in found}
    return _names_of([node for node in found if node.name.value == below], info, None)


def build_schema(routes: Sequence[Route]) -> GraphQLSchema:
    """Build the schema over the routes of query that there are."""
    by_path = {r.endpoint.path.removeprefix(_PREFIX): r for r in routes if r.endpoint.method == "GET"}
    types = Types(lambda name: _additions(name, by_path, pages))
    pages = _Pages(types)
    top = {name: pages.field(Question(by_path[path])) for name, path in _TOP.items() if path in by_path}
    fleet = {
        path.removeprefix("fleet/").replace("-", "_"): pages.field(Question(route))
        for path, route in by_path.items()
        if path.startswith("fleet/")
    }
    if fleet:
        kind = GraphQLObjectType("Fleet", fleet, description="Questions to the whole fleet over a window.")
        top["fleet"] = GraphQLField(GraphQLNonNull(kind), resolve=lambda *_: {})
    return GraphQLSchema(GraphQLObjectType("Query", top))


class _Pages:
    """Makes the fields of questions; a page of one kind of thing is one type."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._pages: dict[str, GraphQLObjectType] = {}

    def field(self, question: Question) -> GraphQLField:
        endpoint = question.endpoint
        without = _NOT_ARGUMENTS | ({question.own[0], "hostname"} if question.own else set())
        answered = self._types.build_output(endpoint.answers[0].data)
        return GraphQLField(
            self._paged(answered) if question.paged else answered,
            build_arguments(endpoint, without=frozenset(without)),
            resolve=question.resolve,
            description=endpoint.summary,
        )

    def _paged(self, listed: Any) -> Any:
        name = f"{get_named_type(listed).name}Page"
        if name not in self._pages:
            self._pages[name] = GraphQLObjectType(
                name,
                {
                    "data": GraphQLField(listed, description="What was asked for."),
                    "count": GraphQLField(GraphQLNonNull(LONG), description="How many they are."),
                    "next": GraphQLField(GraphQLString, description="The cursor to go on from, or null."),
                },
                description="A page, and where it goes on.",
            )
        return GraphQLNonNull(self._pages[name])


def _additions(name: str, by_path: Mapping[str, Route], pages: _Pages) -> dict[str, GraphQLField]:
    if name == "Record":
        return _record_fields()
    return {
        field: pages.field(Question(by_path[path], (argument, member)))
        for (above, field), (path, argument, member) in _BELOW.items()
        if above == name and path in by_path
    }


def _record_fields() -> dict[str, GraphQLField]:
    """Make fields of all that is catalogued; what is not is under `other`."""
    known = {name: GraphQLField(GraphQLString) for name in LABELS}
    known |= {
        name: GraphQLField(
            GraphQLFloat, description=f"{field.description} in {field.unit}".removesuffix(" in ")
        )
        for name, field in FIELDS.items()
    }
    every = {"timestamp", "uuid", *known}

    def other(record: dict[str, Any], _info: GraphQLResolveInfo[Any]) -> dict[str, Any]:
        return {name: value for name, value in record.items() if name not in every}

    return known | {"other": GraphQLField(JSON, resolve=other, description="Fields that are not catalogued.")}
