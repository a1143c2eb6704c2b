"""Going on where a function is away for a moment: a restart of it is not the end of a backup."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from shared.errors import Transient

T = TypeVar("T")

#: Seconds before each further attempt.
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)


def patiently(call: Callable[[], T]) -> T:
    """Call again, after a pause, what fails because something is away for the moment.

    Raises:
        Transient: It still is, after a quarter of a minute.
    """
    for pause_s in _PAUSES_S:
        try:
            return call()
        except Transient:
            threading.Event().wait(pause_s)
    return call()
