"""The endpoints of query: which GPUs and hosts there are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint, Parameters, Shape
from shared.api.records import AsOf, Gpu, GpuFilter, Host
from shared.api.types import Count
from shared.errors import Conflict, NotFound, Transient

UNCHANGED = Answer(
    status=304, types=(), description="Nothing changed since the answer whose ETag If-None-Match names."
)
_ETAG = "With an ETag: it changes with what is stored, and when a GPU becomes stale."
_LABELS = "GPUs are chosen by their newest labels."


class GpuPage(GpuFilter):
    """Which GPUs, and how many of them at a time."""

    limit: Annotated[Count | None, Field(description="how many GPUs, at most; all unless given")] = None
    cursor: Annotated[str | None, Field(description="`next` of the page before")] = None


class HostGpusWanted(GpuPage):
    """Which GPUs of a host."""

    hostname: Annotated[str, Field(min_length=1, description="the host's name, exactly")]


class GpuWanted(Parameters):
    """Which GPU."""

    gpu: Annotated[str, Field(description="the GPU's uuid, or its index on a host with hostname=")]
    hostname: Annotated[str | None, Field(description="the host of a GPU that is named by its index")] = None
    as_of: AsOf = "now"


class HostFilter(GpuFilter):
    """Which hosts: those with GPUs that match, of which only these are counted; status is the host's."""


class Newest(Shape):
    """The newest value of a field, and when it was reported."""

    value: float
    unit: str
    timestamp: str


class GpuDetail(Gpu):
    """A GPU and the newest value of every field that it ever reported."""

    latest: dict[str, Newest]


def _list(path: str, summary: str, parameters: type[Parameters], data: Any, description: str) -> Endpoint:
    paged = issubclass(parameters, GpuPage)
    beside: dict[str, Any] = {"count": int, "next": str | None} if paged else {"count": int}
    errors = (NotFound, Transient) if parameters is HostGpusWanted else (Transient,)
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


LIST_GPUS = _list(
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
LIST_HOSTS = _list(
    "/api/v1/hosts",
    "The hosts there are",
    HostFilter,
    list[Host],
    "Ordered by name. `status` chooses by the host's status; the other filters choose GPUs, and what is "
    "counted and listed of a host is of these.",
)
HOST_GPUS = _list(
    "/api/v1/hosts/{hostname}/gpus",
    "The GPUs of one host",
    HostGpusWanted,
    list[Gpu],
    "Ordered by index and uuid.",
)
ENDPOINTS = (LIST_GPUS, GET_GPU, LIST_HOSTS, HOST_GPUS)
