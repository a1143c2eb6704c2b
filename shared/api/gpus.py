"""The endpoints of query: which GPUs there are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint, Parameters, Shape
from shared.api.records import AsOf, Gpu, GpuFilter
from shared.api.types import Count
from shared.errors import Conflict, NotFound, PipelineError, Transient

UNCHANGED = Answer(
    status=304, types=(), description="Nothing changed since the answer whose ETag If-None-Match names."
)
_ETAG = "With an ETag: it changes with what is stored, and when a GPU becomes stale."
_LABELS = "GPUs are chosen by their newest labels."


class GpuPage(GpuFilter):
    """Which GPUs, and how many of them at a time."""

    limit: Annotated[Count | None, Field(description="how many GPUs, at most; all unless given")] = None
    cursor: Annotated[str | None, Field(description="`next` of the page before")] = None


class GpuWanted(Parameters):
    """Which GPU."""

    gpu: Annotated[str, Field(description="the GPU's uuid, or its index on a host with hostname=")]
    hostname: Annotated[str | None, Field(description="the host of a GPU that is named by its index")] = None
    as_of: AsOf = "now"


class Newest(Shape):
    """The newest value of a field, and when it was reported."""

    value: float
    unit: str
    timestamp: str


class GpuDetail(Gpu):
    """A GPU and the newest value of every field that it ever reported."""

    latest: dict[str, Newest]


def declare_list(
    path: str,
    summary: str,
    parameters: type[Parameters],
    data: Any,
    description: str,
    errors: tuple[type[PipelineError], ...] = (Transient,),
) -> Endpoint:
    """Declare a list of GPUs or of their hosts."""
    paged = issubclass(parameters, GpuPage)
    beside: dict[str, Any] = {"count": int, "next": str | None} if paged else {"count": int}
    return Endpoint(
        service="query",
        method="GET",
        path=path,
        summary=summary,
        description=f"{description} {_LABELS} {_ETAG}",
        tag="gpus",
        parameters=parameters,
        answers=(Answer(data=data, beside=beside), UNCHANGED),
        errors=errors,
    )


LIST_GPUS = declare_list(
    "/api/v1/gpus",
    "The GPUs there are",
    GpuPage,
    list[Gpu],
    "Ordered by host, index and uuid; all at once, or by pages.",
)
GET_GPU = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/gpus/{gpu}",
    summary="One GPU and its newest values",
    description=f"Each value with the time it was reported: some are older than the newest record. {_ETAG}",
    tag="gpus",
    parameters=GpuWanted,
    answers=(Answer(data=GpuDetail), UNCHANGED),
    errors=(NotFound, Conflict, Transient),
)
ENDPOINTS = (LIST_GPUS, GET_GPU)
