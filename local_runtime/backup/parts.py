"""The plan of an export: which parts it is fetched in. Pure: made once, from what query says there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

DAY_MS = 86_400_000
#: Days in one part: each becomes a file, and they are written at the same time.
MAX_DAYS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """What was known of a GPU when the export began; both times included."""

    uuid: str
    first_ms: int
    last_ms: int
    #: About how many.
    rows: int

    def rows_within(self, start_ms: int, end_ms: int) -> float:
        """Estimate how many of its rows lie in [start, end), as if they were spread evenly."""
        overlap = min(self.last_ms + 1, end_ms) - max(self.first_ms, start_ms)
        return max(self.rows * overlap / (self.last_ms + 1 - self.first_ms), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is fetched at once: the rows of GPUs, first and last included, in [start, end) of whole days."""

    number: int
    start_ms: int
    end_ms: int
    first_uuid: str
    last_uuid: str
    rows_estimate: int


def parse_day_ms(date: str) -> int:
    """Read YYYY-MM-DD as the epoch milliseconds at which the day begins."""
    return int(datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1000


def format_day(ms: int) -> str:
    """Write the UTC day of an epoch time in milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def plan_parts(days: Mapping[str, int], gpus: Sequence[Gpu], wanted_rows: int) -> list[Part]:
    """Cut what there is into parts of about so many rows, by days and within them by GPUs.

    Args:
        days: About how many rows each UTC day has; days that are not there have none.
        gpus: In order of uuid.
        wanted_rows: Days with fewer rows share a part, one with more has several.
    """
    parts: list[Part] = []
    for start_ms, end_ms, rows in _group_days(days, wanted_rows):
        weights = [(gpu.uuid, gpu.rows_within(start_ms, end_ms)) for gpu in gpus]
        total = sum(weight for _, weight in weights)
        for first, last, share in _group_gpus([w for w in weights if w[1]], total * wanted_rows / rows):
            parts.append(
                Part(
                    number=len(parts),
                    start_ms=start_ms,
                    end_ms=end_ms,
                    first_uuid=first,
                    last_uuid=last,
                    rows_estimate=max(round(share * rows / total), 1),
                )
            )
    return parts


def _group_days(days: Mapping[str, int], wanted_rows: int) -> Iterator[tuple[int, int, int]]:
    group: list[int] = []
    rows = 0
    for date in sorted(days):
        begin, count = parse_day_ms(date), days[date]
        if group and (rows + count > wanted_rows or begin - group[0] >= MAX_DAYS * DAY_MS):
            yield group[0], group[-1] + DAY_MS, rows
            group, rows = [], 0
        group.append(begin)
        rows += count
    if group:
        yield group[0], group[-1] + DAY_MS, rows


def _group_gpus(weights: Sequence[tuple[str, float]], most: float) -> Iterator[tuple[str, str, float]]:
    group: list[str] = []
    share = 0.0
    for uuid, weight in weights:
        if group and share + weight > most:
            yield group[0], group[-1], share
            group, share = [], 0.0
        group.append(uuid)
        share += weight
    if group:
        yield group[0], group[-1], share
