"""YAML as the API server reads it, with the line of each value; a key that stands twice is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from local_runtime.manifests.parts import Path, format_path
from shared.errors import BadConfig

_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_COLLECTIONS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}


@dataclass(kw_only=True)
class Document:
    """One YAML document of a file."""

    file: str
    #: Plain values; not shown, for they may be of a Secret.
    data: Any = field(repr=False)
    #: The line, from 1, of the value at each path.
    lines: Mapping[Path, int] = field(default_factory=dict, repr=False)
    #: The options that values are from, by path.
    overrides: dict[Path, str] = field(default_factory=dict)

    def line(self, path: Path) -> int | None:
        """Return the line of a value, or of the closest one around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def override(self, path: Path) -> str | None:
        """Return the option that a value, or one around it, is from."""
        found = (self.overrides.get(path[:length]) for length in range(len(path), 0, -1))
        return next((option for option in found if option), None)


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as Kubernetes' reader does: 12:30 and dates are text, 1e3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_TIMESTAMP, *_NUMBERS}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(0b[0-1_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$", re.ASCII),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def parse_documents(text: str, file: str) -> list[Document]:
    """Parse the documents of one file; empty ones are left out.

    Raises:
        BadConfig: Not YAML, or a key stands twice in one mapping; the sentence shows no value.
    """
    try:
        return list(_iter_documents(text, file))
    except yaml.MarkedYAMLError as exc:
        # Not str(exc): it quotes the lines around, and they may be of a Secret.
        mark = exc.problem_mark or exc.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise BadConfig(f"{file}: not YAML: {exc.problem or exc.context}{place}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise BadConfig(f"{file}: not YAML: {' '.join(str(exc).split())}") from None


def _iter_documents(text: str, file: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            lines: dict[Path, int] = {}
            data = None if node is None else _Builder(loader, file, lines).build(node, ())
            if data is not None:
                yield Document(file=file, data=data, lines=lines)
    finally:
        loader.dispose()


class _Builder:
    """Makes plain values of nodes."""

    def __init__(self, loader: _Loader, file: str, lines: dict[Path, int]) -> None:
        self._loader = loader
        self._file = file
        self._lines = lines
        #: Aliases stand for one value, which is built once.
        self._built: dict[int, Any] = {}

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._lines[path] = node.start_mark.line + 1
        if id(node) in self._built:
            return self._built[id(node)]
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            raise yaml.MarkedYAMLError(problem=f"{node.tag} is not JSON", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            mapping = self._built[id(node)] = {}
            for key, value in self._pairs(node, path):
                mapping[key] = self.build(value, (*path, key))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            sequence = self._built[id(node)] = []
            sequence.extend(self.build(value, (*path, i)) for i, value in enumerate(node.value))
            return sequence
        return self._loader.construct_object(node)

    def _pairs(self, node: yaml.MappingNode, path: Path) -> list[tuple[str, yaml.Node]]:
        """Return keys and values, those that `<<` brings in first; keys as they are written."""
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise BadConfig(f"{self._file}: a key is not a string (line {key.start_mark.line + 1})")
            if key.tag != _MERGE and key.value in first:
                where = format_path((*path, key.value))
                raise BadConfig(
                    f"{self._file}: {where}: stands twice"
                    f" (lines {first[key.value]} and {key.start_mark.line + 1})"
                )
            first[key.value] = key.start_mark.line + 1
        self._loader.flatten_mapping(node)
        return [(key.value, value) for key, value in node.value]
