"""A function whose clock is wrong. Run as: shifted_clock.py SECONDS, then functions-framework's arguments."""

from __future__ import annotations

import sys

from functions_framework._cli import _cli

from shared import clock

SHIFT_S = float(sys.argv.pop(1))
right_s, right_ms = clock.now_s, clock.now_ms
# Before anything is imported that could keep the right ones.
clock.now_s = lambda: right_s() + SHIFT_S
clock.now_ms = lambda: right_ms() + int(SHIFT_S * 1000)

if __name__ == "__main__":
    _cli()
