"""YAML as the API server reads it, with the line of each value; a key that stands twice is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from local_runtime.manifests.parts import Document, Path, format_path
from shared.errors import BadConfig

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Reads dates as the text they are."""


_Loader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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
        document.data = _build(loader, document, loader.get_node(), ())
        if document.data is not None:
            yield document


def _build(loader: _Loader, document: Document, node: Any, path: Path) -> Any:
    """Make plain values of a node; what an alias stands for is built anew in each place."""
    document.lines[path] = node.start_mark.line + 1
    if node.tag == f"{_TAG}seq":
        return [_build(loader, document, value, (*path, i)) for i, value in enumerate(node.value)]
    if node.tag != f"{_TAG}map":
        return loader.construct_object(node)
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise BadConfig(f"{document.file}: a key is not a string (line {line})")
        if key.value in first and key.tag != f"{_TAG}merge":
            lines = f"(lines {first[key.value]} and {line})"
            raise BadConfig(f"{document.file}: {format_path((*path, key.value))}: stands twice {lines}")
        # What `<<` brought in before, for another alias of this mapping, may stand in it too.
        if node.start_mark.index <= key.start_mark.index < node.end_mark.index:
            first[key.value] = line
    loader.flatten_mapping(node)
    return {key.value: _build(loader, document, value, (*path, key.value)) for key, value in node.value}
