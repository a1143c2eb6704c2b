"""--set NAME.KEY=VALUE: what is changed in the manifests for one run, before they are checked."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from local_runtime.manifests.cluster import NAME, NAMESPACE
from local_runtime.manifests.documents import Document
from local_runtime.manifests.metadata import AUTOSCALING, spell
from local_runtime.manifests.parts import Path, format_path, suggest
from shared.errors import BadConfig

_CONTAINER: Path = ("spec", "template", "spec", "containers", 0)
_REVISION: Path = ("spec", "template", "spec")
_ANNOTATIONS: Path = ("spec", "template", "metadata", "annotations")
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)

_ENVIRONMENT = "env."
#: The paths of the keys that a kind takes; a key that ends in `.` or `/` begins one.
_KEYS: dict[str, dict[str, Path]] = {
    "Service": {
        AUTOSCALING: _ANNOTATIONS,
        **{
            key: (*_REVISION, key)
            for key in (
                "containerConcurrency",
                "timeoutSeconds",
                "responseStartTimeoutSeconds",
                "idleTimeoutSeconds",
            )
        },
        _ENVIRONMENT: (*_CONTAINER, "env"),
        "resources.limits.memory": (*_CONTAINER, "resources", "limits", "memory"),
    },
    "ContainerSource": {
        _ENVIRONMENT: (*_CONTAINER, "env"),
        "resources.limits.memory": (*_CONTAINER, "resources", "limits", "memory"),
    },
    "PingSource": {key: ("spec", key) for key in ("schedule", "timezone", "data", "contentType")},
}
_ENDINGS = {"/": "...", ".": "NAME"}
_NUMBERS = frozenset(
    {"containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"}
)


@dataclass(frozen=True, kw_only=True)
class Override:
    """One `--set`."""

    name: str
    key: str
    value: str

    @property
    def option(self) -> str:
        """What it sets; the value is left out, for it may be a secret."""
        return format_path((self.name, self.key))


def parse_override(text: str) -> Override:
    """Read one `NAME.KEY=VALUE`.

    Raises:
        BadConfig: Not of this form.
    """
    target, equals, value = text.partition("=")
    name, _, key = target.partition(".")
    if not equals or not name or not key:
        raise BadConfig(f"--set {target!a}: expected NAME.KEY=VALUE, such as upload.{AUTOSCALING}window=6s")
    return Override(name=name, key=key, value=value)


def apply_overrides(documents: Sequence[Document], overrides: Iterable[str]) -> list[Document]:
    """Change documents as `--set` says; a document for config-autoscaler is added where there is none.

    The documents themselves are changed, and remember what was set, so that mistakes name the option.

    Raises:
        BadConfig: Names what there is instead of an unknown name or key.
    """
    result = list(documents)
    for override in map(parse_override, overrides):
        if override.name == NAME and not any(_is_named(d, NAME, "ConfigMap") for d in result):
            result.append(_build_cluster())
        _apply(result, override)
    return result


def _apply(documents: Sequence[Document], override: Override) -> None:
    if override.name == NAME:
        document = next(d for d in documents if _is_named(d, NAME, "ConfigMap"))
        _put(document, ("data", override.key), override.value, override.option)
        return
    named = [d for d in documents if any(_is_named(d, override.name, kind) for kind in _KEYS)]
    if not named:
        names = [d.data["metadata"]["name"] for d in documents if _is_named(d, None, *_KEYS)]
        reason = f"there is no {override.name!r}" + suggest(override.name, [*names, NAME])
        raise BadConfig(f"--set {override.option}: {reason}")
    for document in named:
        keys = _KEYS[document.data["kind"]]
        prefix = next((key for key in keys if key[-1] in "./" and override.key.startswith(key)), None)
        if prefix == _ENVIRONMENT:
            _put_variable(document, keys[prefix], override)
            return
        if prefix is not None:
            _put(document, (*keys[prefix], spell(override.key)), override.value, override.option)
            return
        if override.key in keys:
            _put(document, keys[override.key], _convert(override), override.option)
            return
    kind = named[0].data["kind"]
    known = [key + _ENDINGS.get(key[-1], "") for key in _KEYS[kind]]
    reason = f"a {kind} has no {override.key!r} to set" + suggest(override.key, known)
    raise BadConfig(f"--set {override.option}: {reason}")


def _convert(override: Override) -> int | str:
    """Make a number of a number's text; what is none is left for the check to refuse."""
    is_number = override.key in _NUMBERS and _INTEGER.fullmatch(override.value)
    return int(override.value) if is_number else override.value


def _put(document: Document, path: Path, value: object, option: str) -> None:
    """Put a value at a path."""
    place = _open(document, path[:-1])
    if isinstance(place, dict):
        place[path[-1]] = value
        if path == ("spec", "data"):
            place.pop("dataBase64", None)
        document.overrides[path] = option


def _put_variable(document: Document, path: Path, override: Override) -> None:
    """Give a container's variable a value, in the place of whatever it had."""
    name = override.key.removeprefix(_ENVIRONMENT)
    container = _open(document, path[:-1])
    variables = container.get("env", []) if isinstance(container, dict) else None
    if isinstance(variables, list):
        same = [i for i, one in enumerate(variables) if isinstance(one, dict) and one.get("name") == name]
        index = same[-1] if same else len(variables)
        container["env"] = [
            *variables[:index],
            {"name": name, "value": override.value},
            *variables[index + 1 :],
        ]
        document.overrides[*path, index] = override.option


def _open(document: Document, path: Path) -> Any:
    """Return what stands at a path, for changes: copied, for an alias of YAML may show it elsewhere too.

    Mappings on the way are made. None: the document is not as it should be, which the check will say.
    """
    place: Any = document.data
    for step in path:
        if isinstance(place, dict):
            place.setdefault(step, {})
        elif not isinstance(place, list) or not isinstance(step, int) or step >= len(place):
            return None
        place[step] = copy.copy(place[step])
        place = place[step]
    return place


def _is_named(document: Document, name: str | None, *kinds: str) -> bool:
    data = document.data
    if not isinstance(data, dict) or data.get("kind") not in kinds:
        return False
    metadata = data.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return False
    return name is None or metadata["name"] == name


def _build_cluster() -> Document:
    return Document(
        file="--set",
        data={
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": {},
        },
    )
