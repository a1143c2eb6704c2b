"""Lines of the logs: JSON of the functions or of etcd, or whatever a program wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

#: The log of a runtime in the background.
RUNTIME = "runtime"
#: What begins the line with which a command says that it failed.
ERROR = "error: "
LEVELS = ("debug", "info", "warning", "error", "critical")
#: What etcd calls them.
_ALSO = {"warn": "warning", "dpanic": "critical", "panic": "critical", "fatal": "critical"}
#: Where each is found: the functions' name first, then etcd's.
_TIME, _LEVEL, _MESSAGE = ("time", "ts"), ("level",), ("message", "msg")
#: Columns of their own, or worth nothing to a person.
_NOT_SHOWN = frozenset(
    (
        *_TIME,
        *_LEVEL,
        *_MESSAGE,
        "logger",
        "service",
        "revision",
        "instance",
        "exception",
        "caller",
        "stacktrace",
    )
)
#: Tell who asked and why: for records that something is wrong.
_WHEN_WRONG = frozenset({"request_id", "action", "client", "event"})
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d))\s+(.*)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One line of a log."""

    #: The name of the log.
    service: str
    line: str
    #: Epoch seconds: of a line that says none, those of the line before it; None: nobody knows.
    at_s: float | None
    #: Whether the line says when it was.
    is_stamped: bool
    #: Empty where the line says none.
    level: str = ""
    message: str = ""
    #: The instance that wrote it, where the line says so.
    instance: str = ""
    exception: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Who wrote it."""
        return self.instance or self.service


def parse_record(service: str, line: str, before_s: float | None) -> LogRecord:
    """Parse a line.

    Args:
        service: The name of the log it stands in.
        line: Without its line break.
        before_s: When the line before it was.
    """
    said = _parse_object(line)
    if said is None:
        stamp = _STAMP.fullmatch(line)
        at_s = _parse_time_s(stamp[1]) if stamp else None
        if stamp is None or at_s is None:
            level = _guess_level(service, line)
            return LogRecord(
                service=service, line=line, at_s=before_s, is_stamped=False, level=level, message=line
            )
        return LogRecord(service=service, line=line, at_s=at_s, is_stamped=True, message=stamp[2])
    at_s = _parse_time_s(_find(said, _TIME))
    level = str(_find(said, _LEVEL)).lower()
    exception = str(said.get("exception") or said.get("stacktrace") or "")
    return LogRecord(
        service=service,
        line=line,
        at_s=before_s if at_s is None else at_s,
        is_stamped=at_s is not None,
        level=_ALSO.get(level, level),
        message=str(_find(said, _MESSAGE)),
        instance=str(said.get("instance") or ""),
        exception=exception.strip("\n"),
        extra={name: value for name, value in said.items() if name not in _NOT_SHOWN},
    )


def reaches(record: LogRecord, level: str) -> bool:
    """Tell whether a record is of a level or above; one that says none may be of any."""
    return record.level not in LEVELS or LEVELS.index(record.level) >= LEVELS.index(level)


def is_wrong(record: LogRecord) -> bool:
    """Tell whether a record says that something is not as it should be."""
    return record.level in LEVELS[2:]


def iter_extra(record: LogRecord) -> Iterator[tuple[str, str]]:
    """Yield the fields that say more than the message: not what is empty, zero, or stands in it already."""
    words = set(re.split(r"[^\w.:/-]+", record.message))
    for name, value in record.extra.items():
        if value in (None, "", 0, False) or (name in _WHEN_WRONG and not is_wrong(record)):
            continue
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        # A number is looked for as a whole word: 8 does not stand in 80.
        if text not in (record.message if isinstance(value, str) else words):
            yield name, text


def clean(text: str) -> str:
    """Make what a stranger may have written harmless to a terminal; lines and tabs stay."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def format_time(at_s: float, today_s: float) -> str:
    """Write a time in this machine's zone: without the day where it is today's."""
    at, today = (datetime.fromtimestamp(s, UTC).astimezone() for s in (at_s, today_s))
    clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
    return clock if at.date() == today.date() else f"{at:%Y-%m-%d} {clock}"


def _guess_level(service: str, line: str) -> str:
    """Guess the level of a line that says none; nothing where it may be of any, as in a traceback."""
    if line.startswith(ERROR):
        return "error"
    return "info" if service == RUNTIME else ""


def _find(said: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((said[name] for name in names if said.get(name) is not None), "")


def _parse_object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _parse_time_s(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None
