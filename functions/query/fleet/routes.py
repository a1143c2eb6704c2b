"""The routes of fleet questions; answers are kept, and have an ETag, as long as nothing new is stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING

import orjson
import pyarrow.compute as pc
from flask import Request, Response

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

if TYPE_CHECKING:
    from functions.query.fleet.answering import Answering


class Fleet:
    """The routes of fleet questions."""

    def __init__(
        self,
        store: Callable[[], Store],
        inventory: Inventory,
        limits: Limits,
        now_ms: Callable[[], int],
        stale_after_s: float,
        expected: ExpectedGpus,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._limits = limits
        self._now_ms = now_ms
        self._stale_after_s = stale_after_s
        self._expected = expected
        self._kept = KeptAnswers()

    @cached_property
    def _answering(self) -> Answering:
        from functions.query.fleet.answering import Answering  # noqa: PLC0415

        return Answering(self._store, self._limits.time_s, self._stale_after_s, self._expected)

    def routes(self) -> list[Route]:
        """List what is served."""
        return [Route(endpoint, partial(self._respond, endpoint)) for endpoint in api.ENDPOINTS]

    def _respond(self, endpoint: Endpoint, request: Request, wanted: api.FleetWanted) -> Response:
        known = self._inventory.view("now").known
        newest = pc.max(known.summary.column(LAST_MS)).as_py()
        window = choose_window(wanted.start_time, wanted.end_time, self._now_ms(), newest)
        self._limits.check_range(window.start_ms, window.end_ms)

        def render() -> bytes:
            data = self._answering.answer(endpoint.path, wanted, window, known.summary)
            return orjson.dumps({"success": True, "data": data}) + b"\n"

        # What time it is matters where a window has not ended, and to a status.
        now_ms = None if wanted.status is None else window.now_ms
        depends = (known.version, endpoint.path, wanted, window.render(), window.until_ms(), now_ms)
        return self._kept.answer(request, depends, render)
