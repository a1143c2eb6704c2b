"""Readers of the numbers that annotations and config-autoscaler have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from local_runtime.manifests.quantities import parse_duration_s, parse_float, parse_integer

#: Reads a value; raises ValueError, which says what is expected.
Reader: TypeAlias = Callable[[str], Any]

_HOUR_S = 3600.0
_SHORTEST_WINDOW_S = 6.0


def read_bool(text: str) -> bool:
    """Read true or false."""
    if text.lower() not in {"true", "false"}:
        raise ValueError('expected "true" or "false"')
    return text.lower() == "true"


def read_float(low: float, high: float | None = None, *, above: bool = False) -> Reader:
    """Make a reader of numbers from `low` (or above it) to `high`."""
    least = f"more than {low:g}" if above else f"at least {low:g}"
    expected = f"expected {least}" if high is None else f"expected {low:g} to {high:g}"

    def read(text: str) -> float:
        value = parse_float(text)
        if value < low or (above and value == low) or (high is not None and value > high):
            raise ValueError(expected)
        return value

    return read


def read_count(low: int) -> Reader:
    """Make a reader of whole numbers from `low` on."""

    def read(text: str) -> int:
        value = parse_integer(text)
        if value < low:
            raise ValueError(f"expected at least {low}")
        return value

    return read


def read_burst_capacity(text: str) -> float:
    """Read a target burst capacity."""
    value = parse_float(text)
    if value < 0 and value != -1:
        raise ValueError("expected 0 or more, or -1 for any number")
    return value


def read_window_s(text: str) -> float:
    """Read a stable window."""
    value = parse_duration_s(text)
    if not _SHORTEST_WINDOW_S <= value <= _HOUR_S:
        raise ValueError("expected 6s to 1h")
    return _check_whole(value)


def read_delay_s(text: str) -> float:
    """Read a scale-down delay."""
    return _check_whole(read_retention_s(text))


def read_retention_s(text: str) -> float:
    """Read how long the last instance is kept."""
    value = parse_duration_s(text)
    if not 0 <= value <= _HOUR_S:
        raise ValueError("expected 0s to 1h")
    return value


def read_grace_s(text: str) -> float:
    """Read a grace period."""
    value = parse_duration_s(text)
    if value <= 0:
        raise ValueError("expected more than 0s")
    return value


def read_word(*words: str) -> Reader:
    """Make a reader of one of several words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {' or '.join(words)}")
        return text

    return read


def _check_whole(value: float) -> float:
    if value != round(value):
        raise ValueError("expected whole seconds")
    return value
