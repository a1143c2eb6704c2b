"""Lines of the logs: JSON of the functions or of etcd, or whatever a program wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: The log of a runtime in the background.
RUNTIME = "runtime"
LEVELS = ("debug", "info", "warning", "error", "critical")
#: What etcd calls them.
_LEVELS_OF_ETCD = {"warn": "warning", "dpanic": "critical", "panic": "critical", "fatal": "critical"}
#: Have a place of their own, or are worth nothing to a person.
_SHOWN = ("time", "ts", "level", "message", "msg", "instance", "exception", "stacktrace")
_NOT_SHOWN = frozenset((*_SHOWN, "logger", "service", "revision", "caller"))
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
    #: Epoch seconds; None: the line does not say.
    at_s: float | None
    #: Empty where the line says none.
    level: str = ""
    message: str = ""
    #: The instance that wrote it, else the name of the log.
    source: str
    exception: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def reaches(self, level: str) -> bool:
        """Tell whether it is of a level or above; one that says none may be of any."""
        return self.level not in LEVELS or LEVELS.index(self.level) >= LEVELS.index(level)

    def iter_extra(self) -> Iterator[tuple[str, str]]:
        """Yield the fields that say more than the message: not what is empty, zero, or stands in it."""
        is_wrong = self.level in LEVELS[2:]
        for name, value in self.extra.items():
            if value in (None, "", 0, False) or (name in _WHEN_WRONG and not is_wrong):
                continue
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            # As a whole word: 8 does not stand in 80.
            if not re.search(rf"(?<!\w){re.escape(text)}(?!\w)", self.message):
                yield name, text


def parse_record(service: str, line: str) -> LogRecord:
    """Parse a line, without its line break, of the log of a service."""
    said = parse_object(line)
    if said is None:
        stamp = _STAMP.fullmatch(line)
        at_s = _parse_time_s(stamp[1]) if stamp else None
        # What the runtime prints without a time is where everything is, and its own failure.
        is_told = service == RUNTIME and at_s is None and not line.startswith("error: ")
        return LogRecord(
            service=service,
            line=line,
            at_s=at_s,
            level="info" if is_told else "",
            message=line if stamp is None or at_s is None else stamp[2],
            source=service,
        )
    level = str(said.get("level") or "").lower()
    return LogRecord(
        service=service,
        line=line,
        at_s=_parse_time_s(said.get("time") or said.get("ts")),
        level=_LEVELS_OF_ETCD.get(level, level),
        message=str(said.get("message") or said.get("msg") or ""),
        source=str(said.get("instance") or service),
        exception=str(said.get("exception") or said.get("stacktrace") or "").strip("\n"),
        extra={name: value for name, value in said.items() if name not in _NOT_SHOWN},
    )


def clean(text: str) -> str:
    """Make what a stranger may have written harmless to a terminal; lines and tabs stay."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def parse_object(line: str) -> dict[str, Any] | None:
    """Parse a line that is a JSON object; None where it is none."""
    try:
        said = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _parse_time_s(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None
