"""What query answers beside GPUs and their records; imported when the first of it is asked for.

Nothing here is needed for what a query that was just started is asked first, as a rule, and half of the
modules of query are only needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from functions.query.export import Export
from functions.query.fleet.routes import Fleet
from functions.query.graph.door import GraphDoor
from functions.query.hosts import HostRoutes
from functions.query.inventory import Inventory
from functions.query.metrics import GpuMetrics
from functions.query.paging import Limits
from functions.query.stored import StoredRoutes
from functions.query.swagger import Swagger
from shared import clock
from shared.config import Settings
from shared.etcd import Etcd
from shared.http import Counts, Route
from shared.http.metrics import render_own
from shared.keys import Keys
from shared.queue import Queue
from shared.store.gpus import Gpus
from shared.store.read import Store


def build_routes(
    config: Settings,
    inventory: Inventory,
    limits: Limits,
    store: Callable[[], Store],
    gpus: Callable[[], Gpus],
    *,
    etcd: Callable[[], Etcd],
    keys: Keys,
    counts: Counts,
    questions: Sequence[Route],
) -> list[Route]:
    """Build the routes; `questions` are the others, which GraphQL asks too."""
    parts = (
        HostRoutes(inventory),
        StoredRoutes(inventory),
        Fleet(store, inventory, limits, clock.now_ms, config.stale_after, config.expected()),
        Export(store, gpus, lambda: Queue(etcd(), keys), clock.now_ms),
        GpuMetrics(gpus, clock.now_ms, config.stale_after, lambda: render_own("query", counts.snapshot())),
        Swagger(),
    )
    routes = [route for part in parts for route in part.routes()]
    if config.enable_graphql:
        routes += GraphDoor([*questions, *routes]).routes()
    return routes
