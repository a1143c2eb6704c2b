"""The types of parameters: times, counts, lists, flags; each reads a text and says what would be right."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}| \d{2}:\d{2}))?)?"
)
_RELATIVE = re.compile(r"now(?:([+-])(\d{1,9})(ms|s|m|h|d|w))?")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
#: Epoch numbers from this on are milliseconds: as seconds they would lie beyond the year 5138.
_SECONDS_BELOW = 100_000_000_000
_EXPECTED_TIME = (
    "expected RFC 3339 such as 2024-01-15T10:30:00Z, epoch seconds or milliseconds, now, or such as now-15m"
)


def parse_time_ms(text: str, now_ms: int) -> int:
    """Read a time as epoch milliseconds; RFC 3339 without a zone is UTC.

    A `+` that a client did not encode arrives as a space: it is taken for the plus it was. A fraction of a
    millisecond is rounded up: [start, end) of whole milliseconds means the same then.

    Raises:
        ValueError: It is no time; says what would be one.
    """
    relative = _RELATIVE.fullmatch(text.replace("now ", "now+", 1))
    if relative:
        step = int(relative[2] or 0) * _UNIT_MS[relative[3] or "s"]
        ms = now_ms + (-step if relative[1] == "-" else step)
    elif re.fullmatch(r"\d{1,13}([.]\d{1,9})?", text):
        whole, _, fraction = text.partition(".")
        if int(whole) < _SECONDS_BELOW:
            digits = fraction.ljust(3, "0")
            ms = int(whole) * 1000 + int(digits[:3]) + bool(digits[3:].strip("0"))
        else:
            ms = int(whole) + bool(fraction.strip("0"))
    else:
        ms = _parse_rfc3339(text)
    return ms


def _parse_rfc3339(text: str) -> int:
    fixed = re.sub(r"(:\d{2}(?:\.\d+)?) (\d{2}:?\d{2})$", r"\1+\2", text)
    try:
        if not _TIME.fullmatch(fixed):
            raise ValueError
        time = datetime.fromisoformat(fixed)
        since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise ValueError(_EXPECTED_TIME) from None
    return since.days * 86_400_000 + since.seconds * 1000 - (-since.microseconds // 1000)


def parse_duration_ms(text: str) -> int:
    """Read a duration such as 500ms, 60s, 5m, 1h or a bare number of seconds, as milliseconds.

    Raises:
        ValueError: It is none, or not above zero.
    """
    match = re.fullmatch(r"(\d{1,9})(ms|s|m|h|d|w)?", text)
    ms = int(match[1]) * _UNIT_MS[match[2] or "s"] if match else 0
    if not ms:
        raise ValueError("expected a duration such as 60s, 5m, 1h or a number of seconds")
    return ms


def parse_count(text: str) -> int:
    """Read a whole number of at least 1.

    Raises:
        ValueError: It is something else.
    """
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit() and 0 < len(digits) <= 18):  # noqa: PLR2004
        raise ValueError("expected a whole number of at least 1")
    return int(digits)


def parse_names(text: str) -> tuple[str, ...]:
    """Read names separated by commas, each kept once, in the order given.

    Raises:
        ValueError: One is empty.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if "" in names:
        raise ValueError("expected names separated by commas")
    return names


def parse_flag(text: str) -> bool:
    """Read true or false.

    Raises:
        ValueError: It is something else.
    """
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


def _time(value: Any, info: ValidationInfo) -> Any:
    """Read a time; what is relative goes by the `now_ms` of the validation's context."""
    return parse_time_ms(value, (info.context or {})["now_ms"]) if isinstance(value, str) else value


def _only_text(parse: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


#: The same for clients, roughly: it cannot know that no month but some has a 31st.
_TIME_PATTERN = (
    "^(now([+-][0-9]{1,9}(ms|s|m|h|d|w))?|[0-9]{1,13}([.][0-9]{1,9})?|"
    "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?)$"
)
#: A time: epoch milliseconds inside, several ways to write it outside.
Time = Annotated[
    int,
    BeforeValidator(_time),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": _TIME_PATTERN,
            "examples": ["2024-01-15T10:30:00Z", "1705314600", "now-15m"],
        }
    ),
]
#: A duration: milliseconds inside.
Duration = Annotated[
    int,
    _only_text(parse_duration_ms),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,8}(ms|s|m|h|d|w)?$", "examples": ["60s"]}),
]
Count = Annotated[
    int, _only_text(parse_count), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 10**18 - 1})
]
Flag = Annotated[bool, _only_text(parse_flag), WithJsonSchema({"type": "boolean"})]
#: Names separated by commas.
Names = Annotated[
    tuple[str, ...],
    _only_text(parse_names),
    WithJsonSchema({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}),
]
