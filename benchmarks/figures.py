"""What a part hands to the report: lines of figures with their ratio and aim, and what was lost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure is to reach; missing it is said, and is no failure."""

    text: str
    met: bool


def at_least(value: float, wanted: float, unit: str = "x") -> Aim:
    """Aim for a figure of at least so much."""
    return Aim(f"at least {wanted:g}{unit}", value >= wanted)


def at_most(value: float, wanted: float, unit: str = "x") -> Aim:
    """Aim for a figure of at most so much."""
    return Aim(f"at most {wanted:g}{unit}", value <= wanted)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table."""

    what: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    aim: Aim | None = None


@dataclass(slots=True)
class Section:
    """What one part measured."""

    title: str
    #: What each number includes, as a list in Markdown.
    includes: str
    #: The heads of the columns with figures; the third is their ratio.
    columns: tuple[str, str, str] = ("pipeline", "VictoriaMetrics", "ratio")
    lines: list[Line] = field(default_factory=list)
    #: The same for machines.
    figures: dict[str, Any] = field(default_factory=dict)
    #: What was lost or wrong, one sentence each: a failure.
    lost: list[str] = field(default_factory=list)

    def add(self, what: str, ours: str, theirs: str = "", ratio: str = "", aim: Aim | None = None) -> None:
        """Add a line."""
        self.lines.append(Line(what, ours, theirs, ratio, aim))


def median(values: Sequence[float]) -> float:
    """Return the middle of some figures."""
    return statistics.median(values)


def percentile(values: Sequence[float], per_cent: float) -> float:
    """Return the smallest of the values that `per_cent` of them do not exceed; nan where there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    place = -(-len(ordered) * per_cent // 100)
    return ordered[max(int(place) - 1, 0)]


def divide(a: float, b: float) -> float:
    """Divide; nan where there is nothing to divide by."""
    return a / b if b else float("nan")


def format_ratio(value: float) -> str:
    """Write a ratio."""
    return f"{value:.2f}x"


def format_ms(seconds: float) -> str:
    """Write seconds as milliseconds."""
    ms = seconds * 1000
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:.1f} ms" if ms < 1000 else f"{ms:,.0f} ms"


def format_bytes(size: float) -> str:
    """Write bytes as MiB."""
    return f"{size / 2**20:,.1f} MiB"


def format_spread(values: Sequence[float], digits: int = 2) -> str:
    """Write the middle of some figures and, where there are several, their range."""
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"
