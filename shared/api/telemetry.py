"""The endpoints of query: the records of GPUs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint
from shared.api.records import PAGE, InWindow, Record
from shared.api.types import Count
from shared.errors import Conflict, NotFound, Transient

#: How many records /api/v1/telemetry answers unless told.
DEFAULT_LIMIT = 100


class GpuTelemetryWanted(InWindow):
    """Which records of one GPU."""

    gpu: Annotated[str, Field(description="the GPU's uuid, or its index on a host with hostname=")]
    hostname: Annotated[str | None, Field(description="the host of a GPU that is named by its index")] = None
    limit: Annotated[Count | None, Field(description="how many records, at most; all unless given")] = None


class TelemetryWanted(InWindow):
    """Which records."""

    limit: Annotated[Count, Field(description="how many records, at most")] = DEFAULT_LIMIT


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
ENDPOINTS = (GPU_TELEMETRY, TELEMETRY, LATEST)
