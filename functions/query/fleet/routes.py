"""The routes of fleet questions; answers are kept, and have an ETag, as long as nothing new is stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pyarrow.compute as pc
from flask import Request, Response

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
from functions.query.fleet.window import choose_window
from functions.query.inventory import Inventory
from functions.query.kept import KeptAnswers
from functions.query.paging import Limits
from shared.api import fleet as api
from shared.api.endpoint import Endpoint
from shared.expected import ExpectedGpus
from shared.http import Route
from shared.records import LAST_MS
from shared.store.read import Store

#: Answers a question once its window is fixed.
Answerer = Callable[[Asked, Any], dict[str, Any]]


class Fleet:
    """Answers what the fleet did; safe to share between threads."""

    def __init__(
        self,
        store: Callable[[], Store],
        inventory: Inventory,
        limits: Limits,
        now_ms: Callable[[], int],
        stale_after_s: float,
        expected: ExpectedGpus,
    ) -> None:
        self._inventory = inventory
        self._limits = limits
        self._now_ms = now_ms
        self._stale_after_s = stale_after_s
        self._parts = Parts(store, time_s=limits.time_s)
        self._kept = KeptAnswers()
        #: What answers, by path.
        self._answerers: dict[str, Answerer] = {
            api.SUMMARY.path: lambda asked, wanted: answer_summary(asked, wanted, expected),
            api.IDLE.path: answer_idle,
            api.MISSING.path: lambda asked, _: answer_missing(asked, expected),
            api.THROTTLED.path: answer_throttled,
            api.ERRORS.path: answer_errors,
            api.BUSY_BUT_EMPTY.path: answer_busy_but_empty,
            api.TOP_GPUS.path: answer_top,
            api.UTILIZATION.path: answer_utilization,
        }

    def routes(self) -> list[Route]:
        """List what is served."""
        return [Route(endpoint, partial(self._respond, endpoint)) for endpoint in api.ENDPOINTS]

    def _respond(self, endpoint: Endpoint, request: Request, wanted: api.FleetWanted) -> Response:
        known = self._inventory.view("now").known
        newest = pc.max(known.summary.column(LAST_MS)).as_py()
        window = choose_window(wanted.start_time, wanted.end_time, self._now_ms(), newest)
        self._limits.check_range(window.start_ms, window.end_ms)
        asked = Asked(wanted, window, known.summary, self._parts, self._stale_after_s)
        depends = (known.version, endpoint.path, asked.name(), wanted)

        def render() -> bytes:
            data = self._answerers[endpoint.path](asked, wanted)
            return orjson.dumps({"success": True, "data": data}) + b"\n"

        return self._kept.answer(request, depends, render)
