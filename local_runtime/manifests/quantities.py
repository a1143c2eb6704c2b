"""How Kubernetes and Knative write numbers, durations and amounts: Go's way, not Python's."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_DURATION = re.compile(r"[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
_STEP = re.compile(r"(\d+\.?\d*|\.\d+)([a-zµμ]+)", re.ASCII)
_SECONDS = {
    "ns": Decimal("1e-9"),
    **dict.fromkeys(("us", "µs", "μs"), Decimal("1e-6")),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
#: The pattern of the CRDs' schemas.
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(\d+(\.\d*)?|\.\d+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,3})?", re.ASCII
)
_SUFFIXES = {
    **{f"{letter}i": Decimal(1024) ** (power + 1) for power, letter in enumerate("KMGTPE")},
    **{letter: Decimal(1000) ** (power - 3) for power, letter in enumerate("num")},
    **{letter: Decimal(1000) ** (power + 1) for power, letter in enumerate("kMGTPE")},
}


def parse_integer(text: str) -> int:
    """Read a whole number of 32 bits.

    Raises:
        ValueError: Says what is expected.
    """
    if _INTEGER.fullmatch(text) is None or not -(2**31) <= int(text) < 2**31:
        raise ValueError('expected a whole number such as "2"')
    return int(text)


def parse_float(text: str) -> float:
    """Read a finite number.

    Raises:
        ValueError: Says what is expected.
    """
    if _FLOAT.fullmatch(text) is None or math.isinf(float(text)):
        raise ValueError('expected a number such as "70" or "0.5"')
    return float(text)


def parse_duration_s(text: str) -> float:
    """Read a duration as Go writes it, `1m30s`, into seconds; a bare number is none.

    Raises:
        ValueError: Says what is expected.
    """
    if _DURATION.fullmatch(text) is None:
        raise ValueError('expected a duration with its unit, such as "90s", "1m30s" or "500ms"')
    total = sum((Decimal(number) * _SECONDS[unit] for number, unit in _STEP.findall(text)), Decimal(0))
    return float(-total if text.startswith("-") else total)


def parse_quantity(value: int | str) -> Decimal:
    """Read an amount of Kubernetes, such as `512Mi`, `1.5G`, `250m` or a bare number.

    Raises:
        ValueError: Says what is expected.
    """
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError("expected an amount such as 512Mi, 1G, 250m or a number")
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix[:1] in {"e", "E"} and len(suffix) > 1 and suffix != "Ei":
        return number * Decimal(10) ** int(suffix[1:])
    return number * _SUFFIXES.get(suffix, Decimal(1))
