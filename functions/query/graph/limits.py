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
#: Values of one object that cost as much as a record: a name can be asked for under any number of others.
_VALUES = 20
#: A limit with more digits counts as one with so many: it is refused in any case.
_MOST_DIGITS = 18


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
                # As many as 64 bits can say: products of limits may be more, and JSON has no more.
                cost = min(cost, 2**63 - 1)
                raise LimitExceeded(
                    f"the query asks for up to {cost} records, at most {MOST_COST} are answered: give its "
                    "lists a smaller limit",
                    cost=cost,
                    most=MOST_COST,
                )


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    return {
        definition.variable.name.value: _whole(definition.default_value)
        for definition in operation.variable_definitions or ()
        if isinstance(definition.default_value, IntValueNode)
    }


def _whole(node: IntValueNode) -> int:
    """Read a number; one of thousands of digits is none to Python."""
    return int(node.value) if len(node.value) <= _MOST_DIGITS else 10**_MOST_DIGITS


class _Measure:
    """Walks a query; fragments are followed, those within themselves end it as too deep.

    Each fragment is walked once for each depth: as often as it is spread, a short query would take for ever.
    """

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]) -> None:
        self._fragments = fragments
        self._variables = variables
        self._known: dict[tuple[str, int, bool], int] = {}

    def cost(self, selected: SelectionSetNode, depth: int, *, of_fleet: bool = False) -> int:
        if depth > MOST_DEPTH:
            raise LimitExceeded(f"the query is more than {MOST_DEPTH} levels deep", most=MOST_DEPTH)
        total = values = 0
        for node in selected.selections:
            if isinstance(node, FieldNode):
                values += node.selection_set is None
                total += self._field(node, depth, of_fleet=of_fleet)
            elif isinstance(node, InlineFragmentNode):
                total += self.cost(node.selection_set, depth + 1, of_fleet=of_fleet)
            elif isinstance(node, FragmentSpreadNode) and node.name.value in self._fragments:
                total += self._fragment(node.name.value, depth + 1, of_fleet=of_fleet)
            if total > MOST_COST:
                break
        return total + values // _VALUES

    def _fragment(self, name: str, depth: int, *, of_fleet: bool) -> int:
        key = name, depth, of_fleet
        if key not in self._known:
            self._known[key] = self.cost(self._fragments[name].selection_set, depth, of_fleet=of_fleet)
        return self._known[key]

    def _field(self, node: FieldNode, depth: int, *, of_fleet: bool) -> int:
        name = node.name.value
        if name.startswith("__") or node.selection_set is None:
            return 0
        below = max(self.cost(node.selection_set, depth + 1, of_fleet=name == "fleet"), 1)
        if of_fleet:
            return _FLEET
        return self._limit(node) * below if name in _LISTS else below

    def _limit(self, node: FieldNode) -> int:
        for argument in node.arguments or ():
            if argument.name.value == "limit":
                if isinstance(argument.value, IntValueNode):
                    return max(_whole(argument.value), 1)
                if isinstance(argument.value, VariableNode):
                    given = self._variables.get(argument.value.name.value)
                    return max(given, 1) if isinstance(given, int) else ASSUMED
        return ASSUMED
