"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float = 15.0, *, every_s: float = 0.05) -> T:
    """Ask until the condition holds and return what it answered; fails at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s: {condition}"
        threading.Event().wait(every_s)
