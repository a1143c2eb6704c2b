"""What became of a file: counts that are exact, the first bad cells by line, and the assumptions made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

#: How many bad cells a report lists; the totals count all.
MAX_LISTED = 100


class BadCell(NamedTuple):
    """A cell, or a whole line where `column` is None, that could not be taken as it is."""

    line: int
    column: str | None
    value: str
    reason: str
    #: Whether the row was rejected for it; else the value became null and the row was kept.
    rejects: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Render for an answer."""
        return {"line": self.line, "column": self.column, "value": self.value, "reason": self.reason}


def format_ms(ms: int) -> str:
    """Write an epoch time in milliseconds as RFC 3339, with decimals only where it has a fraction."""
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(
        timespec="milliseconds" if ms % 1000 else "seconds"
    )
    return text.replace("+00:00", "Z")


@dataclass(slots=True)
class Report:
    """What became of a block, or of a whole file: reports of blocks add up in the order of the file."""

    #: CSV rows, in the long form one metric each.
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    #: Values that became null though something stood in their cell.
    nulled: int = 0
    bad: list[BadCell] = field(default_factory=list)
    gpus: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    first_ms: int | None = None
    last_ms: int | None = None
    #: Sentences for the reader; each once.
    warnings: dict[str, None] = field(default_factory=dict)

    def note(self, bad: list[BadCell]) -> None:
        """Take bad cells in: the first by line are kept, all are counted by whoever found them."""
        self.bad = sorted([*self.bad, *bad], key=lambda b: b.line)[:MAX_LISTED]

    def warn(self, sentence: str) -> None:
        """Add a warning, once; beyond MAX_LISTED only that there are more."""
        if len(self.warnings) < MAX_LISTED:
            self.warnings[sentence] = None
        else:
            self.warnings["there are more warnings"] = None

    def add(self, other: Report) -> None:
        """Add what became of the next block."""
        self.rows += other.rows
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.nulled += other.nulled
        if other.bad and len(self.bad) < MAX_LISTED:
            self.note(other.bad)
        self.gpus |= other.gpus
        self.hosts |= other.hosts
        firsts = [t for t in (self.first_ms, other.first_ms) if t is not None]
        lasts = [t for t in (self.last_ms, other.last_ms) if t is not None]
        self.first_ms, self.last_ms = min(firsts, default=None), max(lasts, default=None)
        for sentence in other.warnings:
            self.warn(sentence)

    def as_dict(self) -> dict[str, Any]:
        """Render for an answer."""
        return {
            "rows": self.rows,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "values_nulled": self.nulled,
            "gpus": len(self.gpus),
            "hosts": len(self.hosts),
            "first_timestamp": None if self.first_ms is None else format_ms(self.first_ms),
            "last_timestamp": None if self.last_ms is None else format_ms(self.last_ms),
            "warnings": list(self.warnings),
            "errors": [b.as_dict() for b in self.bad],
            "errors_total": self.rejected + self.nulled,
        }
