"""What every part of a manifest is made of: strict models, and mistakes that know their path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Final, LiteralString, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from local_runtime.manifests.quantities import parse_quantity

#: Where a value stands in a document: keys and indices.
Path: TypeAlias = tuple[str | int, ...]
_T = TypeVar("_T")

#: The types of our own among pydantic's errors.
MISTAKE: Final = "manifest"
UNKNOWN: Final = "unknown"


class Part(BaseModel):
    """A part of a manifest: types are not converted, and what is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_null(cls, data: Any) -> Any:
        """Refuse a key without a value, as the API server does; but for one that its own tools write."""
        if isinstance(data, dict):
            for key, value in data.items():
                if value is None and key != "creationTimestamp":
                    raise build_mistake((key,), None, "expected a value, or no such key")
        return data


def format_path(path: Path) -> str:
    """Write a path as people do, in one line whatever the keys are."""
    text = ".".join(str(step) for step in path)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def build_mistake(path: Path, value: object, reason: str) -> ValidationError:
    """Build what a validator raises to name a path below its own place."""
    return _build(MISTAKE, path, value, reason)


def build_unknown(path: Path, reason: str, key: str, known: Iterable[str]) -> ValidationError:
    """Build what a validator raises at a key that is none of those that are known."""
    return _build(UNKNOWN, path, key, reason + suggest(key, known))


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Name the word that was probably meant, or those there are."""
    names = list(known)
    close = difflib.get_close_matches(wrong, names, n=1)
    return f" (did you mean {close[0]}?)" if close else f"; there are {', '.join(names)}"


def _build(kind: LiteralString, path: Path, value: object, reason: str) -> ValidationError:
    error = PydanticCustomError(kind, "{reason}", {"reason": reason})
    return ValidationError.from_exception_data(kind, [InitErrorDetails(type=error, loc=path, input=value)])


def _check_string_or_integer(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("expected a string or a whole number")  # noqa: TRY004 - what pydantic takes for a mistake
    return value


def _check_quantity(value: object) -> int | str:
    amount = _check_string_or_integer(value)
    parse_quantity(amount)
    return amount


#: A port: its number or its name. Not a union, whose members pydantic would write into the path.
IntOrString = Annotated[Any, AfterValidator(_check_string_or_integer)]
#: An amount such as 512Mi.
Quantity = Annotated[Any, AfterValidator(_check_quantity)]
#: A list of a manifest, kept as a tuple.
Many = Annotated[tuple[_T, ...], Field(strict=False)]
#: The default of mappings; each model gets a copy of its own.
NOTHING: dict[str, Any] = {}
#: Known to the schema, and the cluster's business alone: its inside is not looked at.
Unread: TypeAlias = dict[str, JsonValue]
