"""query: answers what the fleet did, from a consistent view of the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import functions_framework
from flask import Request, Response

import shared.boot  # noqa: F401  (before all others)
from functions.query.columns import stored_columns
from functions.query.gpus import GpuRoutes
from functions.query.inventory import Inventory
from functions.query.live.door import Live
from functions.query.paging import read_limits
from functions.query.telemetry import Telemetry
from shared import clock
from shared.api.live import LIVE
from shared.http import Counts, EtcdHolder, Route, Service, start
from shared.keys import Keys
from shared.store.gpus import Gpus
from shared.store.read import Store

if TYPE_CHECKING:
    from shared.store.news import News

_config = start("query")
_etcd = EtcdHolder(_config)
_counts = Counts()
_keys = Keys(_config.message_queue_prefix)


@cache
def _store() -> Store:
    return Store(_etcd(), _keys)


@cache
def _gpus() -> Gpus:
    return Gpus(_store())


@cache
def _news() -> News:
    from shared.store.news import News  # noqa: PLC0415  (only for sockets)

    return News(_etcd(), _keys, _store())


_limits = read_limits(_config)
_inventory = Inventory(_gpus, clock.now_ms, _config.stale_after)
_questions = [
    *GpuRoutes(_inventory).routes(),
    *Telemetry(_store, _inventory, _limits, time.monotonic).routes(),
]


def _build_further() -> list[Route]:
    from functions.query.further import build_routes  # noqa: PLC0415  (20 ms, and seldom the first question)

    return build_routes(
        _config,
        _inventory,
        _limits,
        _store,
        _gpus,
        etcd=_etcd,
        keys=_keys,
        counts=_counts,
        questions=_questions,
    )


def _upgrade(request: Request, serve: Callable[[], Response]) -> Response:
    return _service.upgrade(request, LIVE, serve)


_routes = _questions
if _config.enable_websocket:
    _live = Live(
        _news,
        lambda: stored_columns(_inventory.summary()),
        _upgrade,
        threads=_config.threads,
        timeout_s=_config.websocket_timeout,
    )
    _routes = [*_questions, *_live.routes()]
_service: Service = Service("query", _routes, _etcd, _config, _counts, build_further=_build_further)


@functions_framework.http
def query(request: Request) -> Response:
    """Answer a request to the query function."""
    return _service(request)
