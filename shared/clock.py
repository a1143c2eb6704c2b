"""The one place that reads the wall clock; everything else is given the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime

#: Times beyond, the year 2200, are nobody's: neither a record's nor an upload's.
MAX_TIME_MS = 7_258_118_400_000


def now_ms() -> int:
    """Read the wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def now_s() -> float:
    """Read the wall clock in epoch seconds."""
    return time.time()


def format_utc(at_s: float) -> str:
    """Write epoch seconds as RFC 3339 in UTC, to the millisecond: 2024-01-15T10:30:00.000Z."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
