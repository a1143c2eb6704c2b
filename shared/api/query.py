"""The endpoints of query: GPUs, hosts, records, exports."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint, Open, Parameters
from shared.api.records import PAGE, AsOf, Gpu, Host, InWindow, Record
from shared.api.types import Count
from shared.errors import Conflict, NotFound, Transient

ARROW = "application/vnd.apache.arrow.stream"
#: How many records /api/v1/telemetry answers unless told.
DEFAULT_LIMIT = 100


class GpusWanted(Parameters):
    """Which GPUs."""

    as_of: AsOf = "now"


class GpuTelemetryWanted(InWindow):
    """Which records of one GPU."""

    gpu: Annotated[str, Field(description="the GPU's uuid, or its index on a host with hostname=")]
    hostname: Annotated[str | None, Field(description="the host of a GPU that is named by its index")] = None
    limit: Annotated[Count | None, Field(description="how many records, at most; all unless given")] = None


class TelemetryWanted(InWindow):
    """Which records."""

    limit: Annotated[Count, Field(description="how many records, at most")] = DEFAULT_LIMIT


class ExportWanted(InWindow):
    """Which rows are exported."""

    first_uuid: Annotated[str | None, Field(description="the first GPU, in order of uuid")] = None
    last_uuid: Annotated[str | None, Field(description="the last GPU")] = None


class ExportPlan(Open):
    """What there is to export."""

    until_ms: int
    first_ms: int | None
    last_ms: int | None
    rows: int
    queued: int
    days: dict[str, int]
    gpus: list[dict[str, Any]]


LIST_GPUS = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/gpus",
    summary="The GPUs there are",
    tag="gpus",
    parameters=GpusWanted,
    answers=(Answer(data=list[Gpu], beside=PAGE, description="Ordered by host and index."),),
    errors=(Transient,),
)
LIST_HOSTS = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/hosts",
    summary="The hosts there are",
    tag="gpus",
    parameters=GpusWanted,
    answers=(Answer(data=list[Host], beside=PAGE, description="Ordered by name."),),
    errors=(Transient,),
)
GPU_TELEMETRY = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/gpus/{gpu}/telemetry",
    summary="The records of one GPU",
    tag="telemetry",
    parameters=GpuTelemetryWanted,
    answers=(Answer(data=list[Record], beside=PAGE, description="Ordered by time."),),
    errors=(NotFound, Conflict, Transient),
)
TELEMETRY = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/telemetry",
    summary="The records of all GPUs",
    tag="telemetry",
    parameters=TelemetryWanted,
    answers=(Answer(data=list[Record], beside=PAGE, description="Ordered by uuid and time."),),
    errors=(Transient,),
)
LATEST = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/telemetry/latest",
    summary="Of each GPU the newest value of every field",
    tag="telemetry",
    answers=(Answer(data=list[Record], beside=PAGE, description="One record per GPU, at its last time."),),
    errors=(Transient,),
)
EXPORT_PLAN = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/export/plan",
    summary="What there is to export",
    tag="backup",
    role="admin",
    answers=(Answer(data=ExportPlan, description="GPUs and days, with estimates of their rows."),),
    errors=(Transient,),
)
EXPORT = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/export",
    summary="Rows with their versions, as Arrow",
    tag="backup",
    role="admin",
    parameters=ExportWanted,
    answers=(Answer(types=(ARROW,), description="Arrow IPC streams; the last one, empty, ends the answer."),),
    errors=(Transient,),
)
ENDPOINTS = (LIST_GPUS, LIST_HOSTS, GPU_TELEMETRY, TELEMETRY, LATEST, EXPORT_PLAN, EXPORT)
