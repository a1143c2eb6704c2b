"""The environment of a container, as Kubernetes puts it together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from local_runtime.manifests.container import Container
from local_runtime.manifests.maps import ConfigMap, Secret
from local_runtime.manifests.parts import Path
from local_runtime.manifests.variables import EnvironmentVariable
from shared.errors import BadConfig

#: Builds the error about a path of the container.
Mistake = Callable[[Path, str], BadConfig]

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")


def expand_references(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` as Kubernetes does in values, commands and arguments.

    `$$` is a `$`; the name of no variable stays as it is.
    """

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def resolve_environment(
    container: Container, maps: Sequence[ConfigMap], secrets: Sequence[Secret], mistake: Mistake
) -> dict[str, str]:
    """Put together the variables of a container: envFrom in its order, then env over it.

    Args:
        container: Whose variables.
        maps: The ConfigMaps of its namespace.
        secrets: The Secrets of its namespace.
        mistake: Builds the error about a path of the container.

    Raises:
        BadConfig: What is referred to is not there; shows no value.
    """
    resolver = _Resolver(maps, secrets, mistake)
    found: dict[str, str] = {}
    for i, source in enumerate(container.env_from):
        path: Path = ("envFrom", i)
        if source.config_map_ref is not None:
            reference, alias, kind = source.config_map_ref, "configMapRef", "ConfigMap"
        elif source.secret_ref is not None:
            reference, alias, kind = source.secret_ref, "secretRef", "Secret"
        else:
            continue
        holder = resolver.find(kind, reference.name, (*path, alias), optional=reference.optional)
        if holder is not None:
            found |= {
                source.prefix + key: resolver.text(holder, key, (*path, alias)) for key in _keys(holder)
            }
    for i, variable in enumerate(container.env):
        value = resolver.value(variable, ("env", i), found)
        if value is not None:
            found[variable.name] = value
    return found


class _Resolver:
    """Looks values up in ConfigMaps and Secrets."""

    def __init__(self, maps: Sequence[ConfigMap], secrets: Sequence[Secret], mistake: Mistake) -> None:
        holders: list[ConfigMap | Secret] = [*maps, *secrets]
        self._holders = {(str(holder.kind), holder.metadata.name): holder for holder in holders}
        self._mistake = mistake

    def value(self, variable: EnvironmentVariable, path: Path, before: Mapping[str, str]) -> str | None:
        """Return the value of a variable; None: it is optional, and there is none."""
        source = variable.value_from
        if source is None:
            return expand_references(variable.value, before)
        if source.config_map_key_ref is not None:
            reference, alias, kind = source.config_map_key_ref, "configMapKeyRef", "ConfigMap"
        elif source.secret_key_ref is not None:
            reference, alias, kind = source.secret_key_ref, "secretKeyRef", "Secret"
        else:
            return None
        path = (*path, "valueFrom", alias)
        holder = self.find(kind, reference.name, path, optional=reference.optional)
        if holder is None:
            return None
        if reference.key in _keys(holder):
            return self.text(holder, reference.key, path)
        if reference.optional:
            return None
        raise self._mistake(
            (*path, "key"),
            f"the {kind} {reference.name!r} has no key {reference.key!r}; "
            f"it has {', '.join(sorted(_keys(holder))) or 'none'}",
        )

    def find(self, kind: str, name: str, path: Path, *, optional: bool) -> ConfigMap | Secret | None:
        """Return a ConfigMap or Secret; None: it is optional, and there is none."""
        holder = self._holders.get((kind, name))
        if holder is None and not optional:
            there = ", ".join(sorted(other for of, other in self._holders if of == kind))
            raise self._mistake(
                (*path, "name"),
                f"there is no {kind} {name!r} in the folder (in this namespace there is {there or 'none'})",
            )
        return holder

    def text(self, holder: ConfigMap | Secret, key: str, path: Path) -> str:
        """Return a value as text."""
        if isinstance(holder, ConfigMap):
            text = holder.data[key]
        else:
            try:
                text = (holder.read(key) or b"").decode()
            except UnicodeDecodeError:
                raise self._mistake(
                    path, f"{key!r} of the {holder.kind} {holder.metadata.name!r} is not UTF-8 text"
                ) from None
        if "\0" in text:
            raise self._mistake(
                path, f"{key!r} of the {holder.kind} {holder.metadata.name!r} has a zero byte"
            )
        return text


def _keys(holder: ConfigMap | Secret) -> tuple[str, ...]:
    return tuple(holder.data) if isinstance(holder, ConfigMap) else holder.keys
