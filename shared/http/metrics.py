"""What a function tells Prometheus of itself: its requests, and its process.

With several WORKERS each process counts by itself, and a scrape finds one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from flask import Request, Response

from shared.api.endpoint import Parameters
from shared.api.metrics import METRICS
from shared.http.counts import Count
from shared.http.route import Route

#: Of the answer: Prometheus' text format.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_route(service: str, snapshot: Callable[[], Iterable[Count]]) -> Route:
    """Build the route of a function that has nothing but itself to tell."""

    def answer(_request: Request, _wanted: Parameters) -> Response:
        return Response(render_own(service, snapshot()), 200, content_type=CONTENT_TYPE)

    return Route(METRICS, answer)


def render_own(service: str, counted: Iterable[Count]) -> bytes:
    """Write a function's requests and its process."""
    from prometheus_client import generate_latest  # noqa: PLC0415  (41 ms, and only where it is asked)

    requests = b"".join(line.encode() for line in _iter_requests(service, list(counted)))
    return requests + generate_latest(_own_process())


def _iter_requests(service: str, counted: Sequence[Count]) -> Iterator[str]:
    total, duration = "gpu_telemetry_requests_total", "gpu_telemetry_request_duration_seconds"
    labels = [
        f'service="{service}",route="{c.route}",method="{c.method}",status="{c.status}"' for c in counted
    ]
    yield f"# HELP {total} requests that were answered\n# TYPE {total} counter\n"
    for c, of in zip(counted, labels, strict=True):
        yield f"{total}{{{of}}} {c.count}\n"
    yield f"# HELP {duration} seconds until a request was answered\n# TYPE {duration} histogram\n"
    for c, of in zip(counted, labels, strict=True):
        for bound, count in c.within:
            yield f'{duration}_bucket{{{of},le="{bound}"}} {count}\n'
        yield f'{duration}_bucket{{{of},le="+Inf"}} {c.count}\n'
        yield f"{duration}_sum{{{of}}} {c.seconds}\n{duration}_count{{{of}}} {c.count}\n"


@cache
def _own_process() -> Any:
    return process_registry()


def process_registry() -> Any:
    """Make a registry that collects memory, CPU, file descriptors and garbage collection of this process."""
    from prometheus_client import (  # noqa: PLC0415
        CollectorRegistry,
        GCCollector,
        PlatformCollector,
        ProcessCollector,
    )

    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
