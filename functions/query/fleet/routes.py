"""The routes of fleet questions; answers are kept, and have an ETag, as long as nothing new is stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
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
from shared.api import fleet as api
from shared.api.endpoint import JSON, Endpoint
from shared.config import ExpectedGpus
from shared.http import Route
from shared.store.read import Cache, Store

_CACHE_BYTES = 8 * 1024 * 1024

#: Answers a question once its window is fixed.
Answerer = Callable[[Asked, Any], dict[str, Any]]


class Fleet:
    """Answers what the fleet did; safe to share between threads."""

    def __init__(
        self,
        store: Callable[[], Store],
        inventory: Inventory,
        now_ms: Callable[[], int],
        stale_after_s: float,
        expected: ExpectedGpus,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._now_ms = now_ms
        self._stale_after_s = stale_after_s
        self._parts = Parts(store)
        self._answers: Cache[bytes] = Cache(_CACHE_BYTES, len)
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

    def answer(self, endpoint: Endpoint, wanted: api.FleetWanted) -> dict[str, Any]:
        """Answer one of the endpoints' questions."""
        return self._answerers[endpoint.path](self._fix(wanted), wanted)

    def _fix(self, wanted: api.FleetWanted) -> Asked:
        """Fix the window of a question, and which GPUs there are."""
        summary = self._inventory.summary()
        newest = None if summary is None else pc.max(summary.column("last_ms")).as_py()
        window = choose_window(wanted.start_time, wanted.end_time, self._now_ms(), newest)
        return Asked(wanted, window, summary, self._parts, self._stale_after_s)

    def _respond(self, endpoint: Endpoint, request: Request, wanted: api.FleetWanted) -> Response:
        store = self._store()
        version = store.version(store.index())
        asked = self._fix(wanted)
        question = repr((version, endpoint.path, asked.name(), wanted))
        tag = blake2b(question.encode(), digest_size=12).hexdigest()
        body = self._answers.get(tag)
        if body is None and tag not in request.if_none_match:
            answer = {"success": True, "data": self._answerers[endpoint.path](asked, wanted)}
            body = orjson.dumps(answer) + b"\n"
            self._answers.put(tag, body)
        response = Response(body or b"", 200, content_type=JSON)
        response.set_etag(tag)
        response.make_conditional(request)
        return response
