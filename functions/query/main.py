"""query: answers what the fleet did, from a consistent view of the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import functions_framework
from flask import Request, Response

from functions.query.columns import stored_columns
from functions.query.export import Export
from functions.query.fleet.routes import Fleet
from functions.query.gpus import GpuRoutes
from functions.query.graph.door import GraphDoor
from functions.query.inventory import Inventory
from functions.query.live.door import Live
from functions.query.metrics import GpuMetrics
from functions.query.paging import read_limits
from functions.query.stored import StoredRoutes
from functions.query.swagger import Swagger
from functions.query.telemetry import Telemetry
from shared import clock
from shared.api.live import LIVE
from shared.http import Counts, EtcdHolder, Service, start
from shared.http.metrics import render_own
from shared.keys import Keys
from shared.queue import Queue
from shared.store.gpus import Gpus
from shared.store.news import News
from shared.store.read import Store

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
    return News(_etcd(), _keys, _store())


_limits = read_limits(_config)
_inventory = Inventory(_gpus, clock.now_ms, _config.stale_after)
_parts = (
    GpuRoutes(_inventory),
    Telemetry(_store, _inventory, _limits, time.monotonic),
    StoredRoutes(_inventory),
    Fleet(_store, _inventory, _limits, clock.now_ms, _config.stale_after, _config.expected()),
    Export(_store, _gpus, lambda: Queue(_etcd(), _keys), clock.now_ms),
    GpuMetrics(_gpus, clock.now_ms, _config.stale_after, lambda: render_own("query", _counts.snapshot())),
    Swagger(),
)


def _upgrade(request: Request, serve: Callable[[], Response]) -> Response:
    return _service.upgrade(request, LIVE, serve)


_routes = [route for part in _parts for route in part.routes()]
if _config.enable_graphql:
    _routes += GraphDoor(_routes[:]).routes()
if _config.enable_websocket:
    _live = Live(
        _news,
        lambda: stored_columns(_inventory.summary()),
        _upgrade,
        threads=_config.threads,
        timeout_s=_config.websocket_timeout,
    )
    _routes += _live.routes()
_service: Service = Service("query", _routes, _etcd, _config, _counts)


@functions_framework.http
def query(request: Request) -> Response:
    """Answer a request to the query function."""
    return _service(request)
