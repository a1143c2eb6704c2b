"""What every function answers of itself."""

from __future__ import annotations

from typing import Literal

from shared.api.endpoint import Answer, Endpoint, Shape
from shared.errors import Transient


class Health(Shape):
    """Who answers."""

    status: Literal["healthy", "ready"]
    service: str
    version: str


HEALTH = Endpoint(
    service="every",
    method="GET",
    path="/health",
    summary="Whether the function runs",
    tag="health",
    role="anybody",
    limited=False,
    answers=(Answer(body=Health, description="It does."),),
)
READY = Endpoint(
    service="every",
    method="GET",
    path="/health/ready",
    summary="Whether the function reaches etcd",
    tag="health",
    role="anybody",
    limited=False,
    answers=(Answer(body=Health, description="It does."),),
    errors=(Transient,),
)
ENDPOINTS = (HEALTH, READY)
