"""Every endpoint of every function: what the document is made from.

Imported when the document is made, not when a function starts: it needs the declarations of all of them.
"""

from __future__ import annotations

from shared.api import (
    collect,
    export,
    fleet,
    gpus,
    graphql,
    health,
    hosts,
    live,
    metrics,
    stored,
    swagger,
    telemetry,
    upload,
)
from shared.api.endpoint import Endpoint

MODULES = (
    gpus, hosts, telemetry, stored, fleet, live, graphql, metrics, upload, collect, export, health, swagger,
)  # fmt: skip
ENDPOINTS: tuple[Endpoint, ...] = tuple(endpoint for module in MODULES for endpoint in module.ENDPOINTS)

#: What the endpoints are grouped by, in the order in which one reads about them.
TAGS = {
    "gpus": "Which GPUs and hosts there are.",
    "telemetry": "The records of GPUs.",
    "stored": "What is stored: fields, clusters, how much.",
    "fleet": "What the fleet did, over a window: by default the last hour, or the newest one that is stored.",
    "live": "Records as they are stored.",
    "graphql": "The same questions, several in one request.",
    "metrics": "What Prometheus asks.",
    "upload": "Sending files, and what became of them.",
    "operation": "The state of the pipeline, and what it keeps.",
    "dead letters": "Messages that could not be stored, until somebody decides.",
    "backup": "All rows out, and in again.",
    "collect": "What the queue source and cron call; by hand it is rarely needed.",
    "health": "Whether a function runs; every function answers these.",
    "documentation": "This document.",
}
