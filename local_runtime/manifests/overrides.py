"""--set NAME.KEY=VALUE: what is changed in the manifests for one run, before they are checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from local_runtime.manifests.parts import Document, Path, format_path, suggest
from local_runtime.manifests.scaling import ANNOTATIONS, AUTOSCALING, CLUSTER_NAME, CLUSTER_NAMESPACE, spell
from shared.errors import BadConfig

_POD: Path = ("spec", "template", "spec")
_CONTAINER: Path = (*_POD, "containers", 0)
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBERS = ("containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds")
_ENVIRONMENT = "env.NAME"
_ANNOTATION = f"{AUTOSCALING}..."
_PROGRAM: dict[str, Path] = {
    _ENVIRONMENT: (*_CONTAINER, "env"),
    "resources.limits.memory": (*_CONTAINER, "resources", "limits", "memory"),
}
#: The paths of the keys that a kind takes.
_KEYS: dict[str, dict[str, Path]] = {
    "Service": {_ANNOTATION: ANNOTATIONS, **{key: (*_POD, key) for key in _NUMBERS}, **_PROGRAM},
    "ContainerSource": _PROGRAM,
    "PingSource": {key: ("spec", key) for key in ("schedule", "timezone", "data", "contentType")},
}


def apply_overrides(documents: Sequence[Document], overrides: Iterable[str]) -> list[Document]:
    """Change documents as `--set` says; a document for config-autoscaler is added where there is none.

    The documents themselves are changed, and remember what was set, so that mistakes name the option.

    Raises:
        BadConfig: Not `NAME.KEY=VALUE`; names what there is instead of an unknown name or key.
    """
    result = list(documents)
    for text in overrides:
        target, equals, value = text.partition("=")
        name, _, key = target.partition(".")
        if not equals or not name or not key:
            example = f"upload.{AUTOSCALING}window=6s"
            raise BadConfig(f"--set {target!a}: expected NAME.KEY=VALUE, such as {example}")
        if name == CLUSTER_NAME and not _find(result, name, "ConfigMap"):
            metadata = {"name": name, "namespace": CLUSTER_NAMESPACE}
            data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
            result.append(Document(file="--set", data=data))
        _apply(result, name, key, value)
    return result


def _apply(documents: Sequence[Document], name: str, key: str, value: str) -> None:
    # Without the value, which may be a secret.
    option = format_path((name, key))
    if name == CLUSTER_NAME:
        return _put(_find(documents, name, "ConfigMap")[0], ("data", key), value, option)
    named = _find(documents, name, *_KEYS)
    if not named:
        names = [d.data["metadata"]["name"] for d in _find(documents, None, *_KEYS)]
        raise BadConfig(f"--set {option}: there is no {name!r}{suggest(name, [*names, CLUSTER_NAME])}")
    for document in named:
        keys = _KEYS[document.data["kind"]]
        if _ENVIRONMENT in keys and key.startswith("env."):
            return _put_variable(document, key.removeprefix("env."), value, option)
        if _ANNOTATION in keys and key.startswith(AUTOSCALING):
            return _put(document, (*ANNOTATIONS, spell(key)), value, option)
        if key in keys:
            # What is no number is left for the check to refuse.
            is_number = key in _NUMBERS and _INTEGER.fullmatch(value)
            return _put(document, keys[key], int(value) if is_number else value, option)
    kind = named[0].data["kind"]
    raise BadConfig(f"--set {option}: a {kind} has no {key!r} to set{suggest(key, _KEYS[kind])}")


def _put(document: Document, path: Path, value: object, option: str) -> None:
    """Put a value at a path."""
    place = _open(document, path[:-1])
    if isinstance(place, dict):
        place[path[-1]] = value
        if path == ("spec", "data"):
            place.pop("dataBase64", None)
        document.overrides[path] = option


def _put_variable(document: Document, name: str, value: str, option: str) -> None:
    """Give a container's variable a value, in the place of whatever it had."""
    container = _open(document, _CONTAINER)
    variables = container.setdefault("env", []) if isinstance(container, dict) else None
    if isinstance(variables, list):
        same = [i for i, one in enumerate(variables) if isinstance(one, dict) and one.get("name") == name]
        index = same[-1] if same else len(variables)
        variables[index : index + 1] = [{"name": name, "value": value}]
        document.overrides[*_CONTAINER, "env", index] = option


def _open(document: Document, path: Path) -> Any:
    """Return what stands at a path, mappings on the way made; None: the check will say what is wrong."""
    place: Any = document.data
    for step in path:
        if isinstance(place, dict):
            place = place.setdefault(step, {})
        elif isinstance(place, list) and isinstance(step, int) and step < len(place):
            place = place[step]
        else:
            return None
    return place


def _find(documents: Iterable[Document], name: str | None, *kinds: str) -> list[Document]:
    """Return the documents of some kinds that have a name, or this one."""

    def matches(data: Any) -> bool:
        metadata = data.get("metadata") if isinstance(data, dict) and data.get("kind") in kinds else None
        own = metadata.get("name") if isinstance(metadata, dict) else None
        return isinstance(own, str) and name in {None, own}

    return [document for document in documents if matches(document.data)]
