"""What a GraphQL query may cost, decided before any of it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)

from shared.errors import LimitExceeded

#: Levels of braces; introspection as tools send it has 13 and is free.
MOST_DEPTH = 8
#: Records that a query may ask for, by its limits: what stands below a list is asked once per element.
MOST_COST = 100_000
#: The limit of a list that names none.
ASSUMED = 1000
#: Fields that list: what stands below them is multiplied by their limit.
_LISTS = frozenset({"gpus", "hosts", "telemetry", "latest"})
#: What a question to the whole fleet counts as: it reads every record of its window.
_FLEET = 5_000
_MOST_FRAGMENTS = 100


def check(document: DocumentNode, variables: Mapping[str, Any]) -> None:
    """Refuse a query that is too deep or asks for too much.

    Raises:
        LimitExceeded: It is; says the limit and what would be less.
    """
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    if len(fragments) > _MOST_FRAGMENTS:
        raise LimitExceeded(f"the query has {len(fragments)} fragments, at most {_MOST_FRAGMENTS} are taken")
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            given = _defaults(definition) | dict(variables)
            cost = _Measure(fragments, given).cost(definition.selection_set, 1)
            if cost > MOST_COST:
                raise LimitExceeded(
                    f"the query asks for up to {cost} records, at most {MOST_COST} are answered: give its "
                    "lists a smaller limit",
                    cost=cost,
                    most=MOST_COST,
                )


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    return {
        definition.variable.name.value: int(definition.default_value.value)
        for definition in operation.variable_definitions or ()
        if isinstance(definition.default_value, IntValueNode)
    }


class _Measure:
    """Walks a query; fragments are followed, those within themselves end it as too deep."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]) -> None:
        self._fragments = fragments
        self._variables = variables

    def cost(self, selected: SelectionSetNode, depth: int) -> int:
        if depth > MOST_DEPTH:
            raise LimitExceeded(f"the query is more than {MOST_DEPTH} levels deep", most=MOST_DEPTH)
        total = 0
        for node in selected.selections:
            if isinstance(node, FieldNode):
                total += self._field(node, depth)
            elif isinstance(node, InlineFragmentNode):
                total += self.cost(node.selection_set, depth + 1)
            elif isinstance(node, FragmentSpreadNode) and node.name.value in self._fragments:
                total += self.cost(self._fragments[node.name.value].selection_set, depth + 1)
            if total > MOST_COST:
                break
        return total

    def _field(self, node: FieldNode, depth: int) -> int:
        name = node.name.value
        if name.startswith("__") or node.selection_set is None:
            return 0
        below = max(self.cost(node.selection_set, depth + 1), 1)
        if name == "fleet":
            return _FLEET * len(node.selection_set.selections)
        return self._limit(node) * below if name in _LISTS else below

    def _limit(self, node: FieldNode) -> int:
        for argument in node.arguments or ():
            if argument.name.value == "limit":
                if isinstance(argument.value, IntValueNode):
                    return max(int(argument.value.value), 1)
                if isinstance(argument.value, VariableNode):
                    given = self._variables.get(argument.value.name.value)
                    return max(given, 1) if isinstance(given, int) else ASSUMED
        return ASSUMED
