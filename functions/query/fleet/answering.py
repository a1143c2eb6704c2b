"""What answers each fleet question; imported when the first one is asked, so that a cold start is short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from functions.query.fleet.asked import Asked
from functions.query.fleet.parts import Parts
from functions.query.fleet.questions import (
    answer_busy_but_empty,
    answer_errors,
    answer_idle,
    answer_missing,
    answer_throttled,
)
from functions.query.fleet.summary import answer_summary
from functions.query.fleet.top import answer_top
from functions.query.fleet.utilization import answer_utilization
from functions.query.fleet.window import FleetWindow
from shared.api import fleet as api
from shared.expected import ExpectedGpus
from shared.store.read import Store


class Answering:
    """Answers fleet questions as values; safe to share between threads."""

    def __init__(
        self, store: Callable[[], Store], time_s: float, stale_after_s: float, expected: ExpectedGpus
    ) -> None:
        self._parts = Parts(store, time_s=time_s)
        self._stale_after_s = stale_after_s
        #: By the path of the endpoint.
        self._answerers: dict[str, Callable[[Asked, Any], dict[str, Any]]] = {
            api.SUMMARY.path: lambda asked, wanted: answer_summary(asked, wanted, expected),
            api.IDLE.path: answer_idle,
            api.MISSING.path: lambda asked, _: answer_missing(asked, expected),
            api.THROTTLED.path: answer_throttled,
            api.ERRORS.path: answer_errors,
            api.BUSY_BUT_EMPTY.path: answer_busy_but_empty,
            api.TOP_GPUS.path: answer_top,
            api.UTILIZATION.path: answer_utilization,
        }

    def answer(
        self, path: str, wanted: api.FleetWanted, window: FleetWindow, summary: pa.Table
    ) -> dict[str, Any]:
        """Answer the question of an endpoint over a window; `summary` has the GPUs that there are.

        Raises:
            InvalidInput: It cannot be asked.
            LimitExceeded: It takes too long.
        """
        return self._answerers[path](Asked(wanted, window, summary, self._parts, self._stale_after_s), wanted)
