"""YAML as the API server reads it, with the line of each value; a key that stands twice is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from local_runtime.manifests.parts import Document, Path, format_path
from shared.errors import BadConfig

_TAG = "tag:yaml.org,2002:"
_NUMBERS = {
    f"{_TAG}int": r"[-+]?(0b[0-1_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$",
    f"{_TAG}float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$",
}


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as Kubernetes' reader does: 12:30 and dates are text, 1e3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {f"{_TAG}timestamp", *_NUMBERS}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-+0123456789."))


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
    while loader.check_node():
        document = Document(file=file)
        document.data = _Builder(loader, document).build(loader.get_node(), ())
        if document.data is not None:
            yield document


class _Builder:
    """Makes plain values of nodes; what an alias stands for is built anew in each place."""

    def __init__(self, loader: _Loader, document: Document) -> None:
        self._loader = loader
        self._document = document
        #: Mappings into which `<<` was taken already: a key may stand in them twice.
        self._flattened: set[int] = set()

    def build(self, node: Any, path: Path) -> Any:
        self._document.lines[path] = node.start_mark.line + 1
        if node.tag == f"{_TAG}seq":
            return [self.build(value, (*path, i)) for i, value in enumerate(node.value)]
        if node.tag != f"{_TAG}map":
            return self._loader.construct_object(node)
        if id(node) not in self._flattened:
            self._flattened.add(id(node))
            self._check_keys(node, path)
            self._loader.flatten_mapping(node)
        return {key.value: self.build(value, (*path, key.value)) for key, value in node.value}

    def _check_keys(self, node: yaml.MappingNode, path: Path) -> None:
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise BadConfig(f"{self._document.file}: a key is not a string (line {line})")
            if key.value in first and key.tag != f"{_TAG}merge":
                where = f"{self._document.file}: {format_path((*path, key.value))}"
                raise BadConfig(f"{where}: stands twice (lines {first[key.value]} and {line})")
            first[key.value] = line
