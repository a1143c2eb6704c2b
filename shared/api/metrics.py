"""The endpoint of every function that Prometheus asks."""

from __future__ import annotations

from shared.api.endpoint import Answer, Endpoint
from shared.errors import Transient

TEXT = "text/plain"

METRICS = Endpoint(
    service="every",
    method="GET",
    path="/metrics",
    summary="Metrics for Prometheus",
    description=(
        "Prometheus' text format 0.0.4: requests by route, method and status with their durations, and the "
        "process. query adds, under dcgm-exporter's names and labels, the newest value of each field of each "
        "active GPU: what is older than STALE_AFTER is left out, as Prometheus does itself with what it can "
        "no longer scrape. `gpu_telemetry_gpu_last_seen_timestamp_seconds` is told of all GPUs, also stale. "
        "A field that DCGM has no name for is `gpu_telemetry_<field>`. Queue and database are described by "
        "the queue source (METRICS_PORT), which always runs."
    ),
    tag="metrics",
    answers=(Answer(types=(TEXT,), description="A sample per line."),),
    errors=(Transient,),
)
ENDPOINTS = (METRICS,)
