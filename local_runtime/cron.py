"""Cron schedules as Knative's PingSource reads them: parsed and reckoned, no I/O, the time as an argument.

The rules are those of github.com/robfig/cron/v3, which the PingSource adapter uses, and not those of Unix:
the day of the week ends at 6, `a/n` goes from `a` to the end, and a day of the month and a day of the week
that are both set are alternatives, where `*` and `?` count as not set, and `*/2` as set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

#: Where in so many years there is no tick (30 February), there is none.
_MOST_YEARS = 5
_DAY_S = 86_400
_NUMBER = re.compile(r"\+?[0-9]{1,9}")
_ZONE_PREFIX = re.compile(r"(?:CRON_)?TZ=(\S*)\s+(.*)", re.DOTALL)
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_WEEKDAYS = "sun mon tue wed thu fri sat"
#: In order: what a field is called, its least and largest value, and the values' names from the least on.
_FIELDS = (
    ("second", 0, 59, ""),
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of the month", 1, 31, ""),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _WEEKDAYS),
)
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True)
class Schedule:
    """When ticks are, in one time zone."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    #: 0 is Sunday.
    weekdays: frozenset[int]
    #: Whether one of `days` and `weekdays` will do: both are set.
    either_day: bool
    timezone: tzinfo

    def next_tick_s(self, after_s: float) -> float:
        """Return the first tick strictly after a time, both in epoch seconds; infinity where there is none.

        A tick is every moment at which the clocks of the zone show a time that fits: where they are put
        forward, a time they leave out has none, and where they are put back, one that comes twice has two.
        """
        if not (self.seconds and self.minutes and self.hours):
            return float("inf")
        at_s = int(after_s // 1) + 1
        end_s = at_s + _MOST_YEARS * 366 * _DAY_S
        while at_s < end_s:
            wall = datetime.fromtimestamp(at_s, self.timezone)
            if not self._is_day(wall):
                at_s = max(self._start_of_next_day_s(wall), at_s + 1)
                continue
            if wall.hour in self.hours and wall.minute in self.minutes:
                second = min((s for s in self.seconds if s >= wall.second), default=None)
                if second is not None:
                    return float(at_s + second - wall.second)
            # Minute by minute: clocks are put forward and back at the turn of one.
            at_s += 60 - wall.second
        return float("inf")

    def _is_day(self, wall: datetime) -> bool:
        if wall.month not in self.months:
            return False
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return day or weekday if self.either_day else day and weekday

    def _start_of_next_day_s(self, wall: datetime) -> int:
        tomorrow = wall.date() + timedelta(days=1)
        # Midnight that the clocks leave out is the moment at which they are put forward.
        return int(datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=self.timezone).timestamp())


def parse_schedule(text: str, timezone: str = "") -> Schedule:
    """Parse a schedule: 5 fields, or 6 with the seconds first, or an alias such as @hourly.

    Args:
        text: The schedule; unless a time zone is given, it may begin with one (`TZ=Europe/Berlin 0 9 * * *`).
        timezone: As the IANA names it; empty: UTC.

    Raises:
        ValueError: Says what is wrong, and what is expected.
    """
    expression = text
    if text.startswith(("TZ=", "CRON_TZ=")):
        if timezone:
            raise ValueError(f"{text!r} begins with a time zone, and timezone says another")
        if prefixed := _ZONE_PREFIX.fullmatch(text):
            timezone, expression = prefixed[1], prefixed[2]
    zone = parse_timezone(timezone)
    expression = expression.strip()
    if expression.startswith("@") and expression not in _ALIASES:
        raise ValueError(f"{expression!r} is not one of {', '.join(_ALIASES)}")
    parts = _ALIASES.get(expression, expression).split()
    if len(parts) == len(_FIELDS) - 1:
        parts = ["0", *parts]
    if len(parts) != len(_FIELDS):
        raise ValueError(f"{text!r} has {len(parts)} fields, not 5 (or 6 with the seconds first)")
    try:
        sets = [_parse_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)]
    except ValueError as exc:
        raise ValueError(f"{text!r}: {exc}") from exc
    seconds, minutes, hours, days, months, weekdays = sets
    either_day = not (_is_open(parts[3]) or _is_open(parts[5]))
    return Schedule(seconds, minutes, hours, days, months, weekdays, either_day, zone)


def parse_timezone(name: str) -> tzinfo:
    """Return a time zone by its IANA name; the empty one is UTC.

    Raises:
        ValueError: There is none of that name.
    """
    if name in {"", "UTC"}:
        return UTC  # also where there is no database of time zones
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as exc:
        raise ValueError(f"there is no time zone {name!r}, such as Europe/Berlin") from exc


def _parse_field(text: str, field: str, least: int, most: int, names: str) -> frozenset[int]:
    """Parse a list of ranges; without any, as in `,`, there are no ticks."""
    numbers = {name: str(number) for number, name in enumerate(names.split(), least)}
    values: set[int] = set()
    for part in filter(None, text.split(",")):
        span, slash, step_text = part.partition("/")
        first_text, hyphen, last_text = span.partition("-")
        step = _parse_number(step_text, part) if slash else 1
        if first_text in {"*", "?"}:
            # What follows the star is not looked at: `*-5` is `*`.
            first, last = least, most
        else:
            first = _parse_number(numbers.get(first_text.lower(), first_text), part)
            last = most if slash else first
            if hyphen:
                last = _parse_number(numbers.get(last_text.lower(), last_text), part)
        if first < least or last > most:
            raise ValueError(f"{part!r}: the {field} is {least} to {most}")
        if first > last:
            raise ValueError(f"{part!r} ends before it begins")
        if step == 0:
            raise ValueError(f"{part!r}: a step is at least 1")
        values.update(range(first, last + 1, step))
    return frozenset(values)


def _parse_number(text: str, part: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{part!r} is not understood")
    return int(text)


def _is_open(text: str) -> bool:
    """Whether a field counts as not set: a star with no step is among its parts."""
    return any(re.fullmatch(r"[*?](-[^/]*)?(/\+?0*1)?", part) for part in text.split(","))
