"""What manifests are made of, strict models, and what is said about a mistake: file, path, value and line."""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from shared.errors import BadConfig

_T = TypeVar("_T")

#: Where a value stands in a document: keys and indices.
Path: TypeAlias = tuple[str | int, ...]
#: A list of a manifest, kept as a tuple.
Many = Annotated[tuple[_T, ...], Field(strict=False)]
#: The default of mappings; each model gets a copy of its own.
NOTHING: dict[str, Any] = {}
#: Nothing is shown; not None, which a value can be.
NO_VALUE = object()
#: The type of our own among pydantic's errors.
_MISTAKE: Final = "manifest"
#: Of some parts there are more names than help anybody.
_LONGEST_HINT = 200
#: What a person may expect to be able to set, and cannot.
_REFUSED = {
    "lifecycle": "is refused by Knative: a function is told to stop by SIGTERM",
    "terminationGracePeriodSeconds": "is refused by Knative: a function has timeoutSeconds to finish",
    "initContainers": "is not run locally",
    "exec": "is not asked locally: use httpGet or tcpSocket",
    "grpc": "is not asked locally: use httpGet or tcpSocket",
}
_WORDS = re.compile("^(Input|Tuple|Dictionary|String) should (be|have|match)")
#: What says more than pydantic's own words.
_EXPECTED = {
    "string_type": "expected a string; in YAML quote it",
    "int_type": "expected a whole number",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "tuple_type": "expected a list",
    "missing": "is missing",
}


@dataclass(kw_only=True)
class Document:
    """One YAML document of a file."""

    file: str
    #: Plain values; not shown, for they may be of a Secret.
    data: Any = field(default=None, repr=False)
    #: The line, from 1, of the value at each path.
    lines: dict[Path, int] = field(default_factory=dict, repr=False)
    #: The options that values are from, by path.
    overrides: dict[Path, str] = field(default_factory=dict)

    def mistake(self, path: Path, reason: str, value: object = NO_VALUE) -> BadConfig:
        """Say what is wrong at a path; the error is the caller's to raise."""
        is_secret = isinstance(self.data, dict) and self.data.get("kind") == "Secret"
        said = reason if value is NO_VALUE or is_secret else f"{reason}, not {_show(value)}"
        option, line = _find_closest(self.overrides, path), _find_closest(self.lines, path)
        if option is not None:
            return BadConfig(f"--set {option}: {said}")
        after = ", ".join(f"--set {option}" for option in dict.fromkeys(self.overrides.values()))
        return BadConfig(
            f"{self.file}: {format_path(path) or 'the document'}: {said}"
            + (f" (line {line})" if line else "")
            + (f" (after {after})" if after else "")
        )

    def describe(self, exc: ValidationError) -> BadConfig:
        """Say the first thing that pydantic found wrong."""
        first = exc.errors()[0]
        kind, value = first["type"], first["input"]
        said = _WORDS.sub("expected", first["msg"].removeprefix("Value error, "))
        # Of a whole mapping or list it is the type that is told, where that is what is wrong.
        is_shown = kind != "missing" and (not isinstance(value, dict | list) or kind.endswith("_type"))
        # pydantic marks what is wrong with a key itself.
        path = tuple(step for step in first["loc"] if step != "[key]")
        return self.mistake(path, _EXPECTED.get(kind, said), value if is_shown else NO_VALUE)


def _find_closest(values: dict[Path, _T], path: Path) -> _T | None:
    """Return what is known of a path, or of the closest one around it."""
    return next((values[path[:n]] for n in range(len(path), -1, -1) if path[:n] in values), None)


def _show(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value!r:.80}"


def format_path(path: Path) -> str:
    """Write a path as people do, in one line whatever the keys are."""
    text = ".".join(str(step) for step in path)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def build_mistake(path: Path, value: object, reason: str) -> ValidationError:
    """Build what a validator raises to name a path below its own place."""
    error = PydanticCustomError(_MISTAKE, "{reason}", {"reason": reason})
    details = InitErrorDetails(type=error, loc=path, input=value)
    return ValidationError.from_exception_data(_MISTAKE, [details])


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Name the word that was probably meant, or those there are if they are few."""
    names = list(known)
    close = difflib.get_close_matches(wrong, names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else f"; there are {', '.join(names)}"
    return hint if len(hint) <= _LONGEST_HINT else ""


def decode_base64(text: str) -> bytes:
    """Decode base64, which may be broken into lines; raises ValueError."""
    return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)


def _spell_field(name: str) -> str:
    """Spell a field as manifests do: period_s is periodSeconds."""
    return to_camel(re.sub("_s$", "_seconds", name))


class Part(BaseModel):
    """A part of a manifest: types are not converted, and what is not known is refused."""

    model_config = ConfigDict(frozen=True, strict=True, alias_generator=_spell_field)
    #: Fields that are the cluster's business alone, whatever they hold; between spaces.
    READ_PAST: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        """Refuse an unknown field, and one without a value, but for what the API server's own tools write."""
        known = {str(field.alias) for field in cls.model_fields.values()} | set(cls.READ_PAST.split())
        for key, value in data.items() if isinstance(data, dict) else ():
            if key not in known:
                unknown = "is not a field that is known here" + suggest(key, sorted(known))
                raise build_mistake((key,), NO_VALUE, _REFUSED.get(key, unknown))
            if value is None and key != "creationTimestamp":
                raise build_mistake((key,), None, "expected a value, or no such key")
        return data


class TemplateMetadata(Part):
    """What is attached to each revision or pod."""

    READ_PAST = "finalizers creationTimestamp"
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = NOTHING
    annotations: dict[str, str] = NOTHING


class Metadata(TemplateMetadata):
    """A resource's name, and what is attached to it; what the API server writes is read past."""

    READ_PAST = (
        f"{TemplateMetadata.READ_PAST} generateName uid resourceVersion generation selfLink ownerReferences"
        " managedFields"
    )
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)] = "default"


class Resource(Part):
    """What every kind has in common; which of them it is has been found out before."""

    READ_PAST = "status"
    api_version: str
    kind: str
    metadata: Metadata
