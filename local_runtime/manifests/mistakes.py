"""What is wrong with a manifest, in one line: file, path, what would be right, the value and its line."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from local_runtime.manifests.documents import Document
from local_runtime.manifests.parts import MISTAKE, UNKNOWN, Path, format_path, suggest
from shared.errors import BadConfig

#: Nothing is shown; not None, which a value can be.
NO_VALUE = object()
#: Of some parts there are more fields than help anybody.
_LONGEST_HINT = 200
#: What a person may expect to be able to set, and Knative does not let him.
_REFUSED = {
    "lifecycle": "is refused by Knative: a function is told to stop by SIGTERM",
    "terminationGracePeriodSeconds": "is refused by Knative: a function has timeoutSeconds to finish",
}
_EXPECTED = {
    "string_type": "expected a string; in YAML quote it",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "tuple_type": "expected a list",
    "invalid-json-value": "expected what JSON can say",
    "missing": "is missing",
    "extra_forbidden": "is not a field that is known here",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
    "too_long": "expected at most {max_length} of them",
    "string_pattern_mismatch": "expected what matches {pattern}",
    "string_too_short": "expected something",
    "string_too_long": "expected at most {max_length} characters",
    "too_short": "expected at least {min_length} of them",
}


def describe_mistake(
    document: Document, path: Path, reason: str, value: object = NO_VALUE, *, hint: str = ""
) -> BadConfig:
    """Say what is wrong at a path of a document; the error is the caller's to raise."""
    data = document.data
    is_secret = isinstance(data, dict) and data.get("kind") == "Secret"
    shown = "" if value is NO_VALUE or is_secret else f", not {_show(value)}"
    option = document.override(path)
    if option is not None:
        return BadConfig(f"--set {option}: {reason}{shown}{hint}")
    where = format_path(path) or "the document"
    after = ", ".join(f"--set {option}" for option in dict.fromkeys(document.overrides.values()))
    line = document.line(path)
    return BadConfig(
        f"{document.file}: {where}: {reason}{shown}{hint}"
        + (f" (line {line})" if line else "")
        + (f" (after {after})" if after else "")
    )


def describe_validation(document: Document, exc: ValidationError, model: type[BaseModel]) -> BadConfig:
    """Say the first thing that pydantic found wrong with a document."""
    first = exc.errors()[0]
    path: Path = first["loc"]
    reason = _describe(first)
    hint = ""
    value: object = first["input"]
    if first["type"] in {"missing", UNKNOWN}:
        value = NO_VALUE
    elif first["type"] == "extra_forbidden":
        value = NO_VALUE
        reason = _REFUSED.get(str(path[-1]), reason)
        hint = "" if path[-1] in _REFUSED else _suggest(model, path)
    elif isinstance(value, dict | list) and first["type"] in {MISTAKE, "value_error"}:
        value = NO_VALUE
    return describe_mistake(document, path, reason, value, hint=hint)


def _describe(error: ErrorDetails) -> str:
    expected = _EXPECTED.get(error["type"])
    if expected is None:
        return error["msg"].removeprefix("Value error, ")
    return expected.format(**error.get("ctx", {}))


def _show(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value!r:.80}"


def _suggest(model: type[BaseModel], path: Path) -> str:
    """Name the field that was probably meant, or those there are."""
    part: type[BaseModel] | None = model
    for step in path[:-1]:
        if part is None or isinstance(step, int):
            continue
        found = [f for name, f in part.model_fields.items() if step == (f.alias or name)]
        part = _find_part(found[0].annotation) if found else None
    if part is None:
        return ""
    hint = suggest(str(path[-1]), sorted(field.alias or name for name, field in part.model_fields.items()))
    return hint if len(hint) <= _LONGEST_HINT else ""


def _find_part(annotation: object) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `tuple[Container, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_find_part, get_args(annotation))), None)
