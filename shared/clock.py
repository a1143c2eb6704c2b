"""The one place that reads the wall clock; everything else is given the time."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Read the wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def now_s() -> float:
    """Read the wall clock in epoch seconds."""
    return time.time()
