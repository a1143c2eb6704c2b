"""The endpoints of query: the records of GPUs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.api.endpoint import JSON, Answer, Endpoint
from shared.api.records import PAGE, PAGE_WITH_NEXT, Aggregate, GpuFilter, InWindow, Record
from shared.api.types import Count, Duration, Names
from shared.errors import Conflict, LimitExceeded, NotAcceptable, NotFound, Transient

#: How many records /api/v1/telemetry answers unless told.
DEFAULT_LIMIT = 1000

FormatName = Literal["json", "ndjson", "csv", "parquet"]
FORMAT_TYPES: dict[FormatName, str] = {
    "json": JSON,
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
_TYPES = tuple(FORMAT_TYPES.values())

Fields = Annotated[
    Names | None,
    Field(
        description=(
            "only these fields, metrics or labels, by our name or DCGM's, beside timestamp, gpu_id, uuid and "
            "hostname; one that a record lacks is null"
        )
    ),
]
Format = Annotated[FormatName | None, Field(description="the format, whatever the header Accept says")]


class RecordsWanted(InWindow):
    """Which records, in which order, and what of them."""

    fields: Fields = None
    order: Annotated[
        Literal["asc", "desc"], Field(description="by time; desc is the whole order turned around")
    ] = "asc"
    step: Annotated[
        Duration | None,
        Field(description="make one record of all that a GPU has in so much time, counted from the epoch"),
    ] = None
    agg: Annotated[
        Aggregate | None, Field(description="what a step makes of the values of a field; avg unless given")
    ] = None
    align: Annotated[
        Duration | None,
        Field(description="join the records that a GPU has within so much time, counted from the epoch"),
    ] = None
    cursor: Annotated[
        str | None, Field(min_length=1, description="go on where a page ended: its `next`, as it is")
    ] = None
    format: Format = None

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.agg is not None and self.step is None:
            raise ValueError("agg says what a step makes of values: give step too, such as step=60s")
        if self.align is not None and self.step is not None:
            raise ValueError("step joins what align would: give one of them")
        return self


class GpuTelemetryWanted(RecordsWanted):
    """Which records of one GPU."""

    gpu: Annotated[str, Field(description="the GPU's uuid, or its index on a host with hostname=")]
    hostname: Annotated[str | None, Field(description="the host of a GPU that is named by its index")] = None
    limit: Annotated[Count | None, Field(description="how many records, at most; all unless given")] = None


class TelemetryWanted(RecordsWanted, GpuFilter):
    """Which records of which GPUs: labels as each record has them, status as the GPU is."""

    limit: Annotated[Count, Field(description="how many records, at most")] = DEFAULT_LIMIT


class LatestWanted(GpuFilter):
    """Of which GPUs, and what."""

    fields: Fields = None
    format: Format = None


_FORMATS = (
    "As JSON, NDJSON, CSV (which upload takes back) or Parquet, by the header Accept or format=. What "
    "is asked again with If-None-Match is 304 while the answer would be the same."
)
_PAGES = (
    "Where there are more than `limit`, `next` is the cursor of the next page: ask the same again with "
    "cursor=. What is stored meanwhile neither moves it nor makes a record come twice. An answer that would "
    "have more records or take longer than the server allows (MAX_QUERY_ROWS, MAX_QUERY_TIME) ends with a "
    "cursor, too. In formats other than JSON the next page is in the header Link, where up to 100,000 "
    "records are asked for; a longer answer has as many as its limit, or breaks off: it never ends early as "
    "if it were whole. A window longer than MAX_QUERY_RANGE is refused; where it is open, what is stored "
    "counts. A step with nothing in it is left out."
)
_COUNTED = "how many records these are, where that is known before the first is sent"
_NOT_MODIFIED = Answer(status=304, types=(), description="It is what the ETag in If-None-Match names.")
_REFUSALS = (LimitExceeded, NotAcceptable, Transient)

GPU_TELEMETRY = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/gpus/{gpu}/telemetry",
    summary="The records of one GPU",
    description=f"{_PAGES} {_FORMATS}",
    tag="telemetry",
    parameters=GpuTelemetryWanted,
    answers=(
        Answer(
            data=list[Record],
            beside=PAGE_WITH_NEXT,
            types=_TYPES,
            description="Ordered by time.",
            rows=_COUNTED,
        ),
        _NOT_MODIFIED,
    ),
    errors=(NotFound, Conflict, *_REFUSALS),
)
TELEMETRY = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/telemetry",
    summary="The records of all GPUs",
    description=f"{_PAGES} {_FORMATS}",
    tag="telemetry",
    parameters=TelemetryWanted,
    answers=(
        Answer(
            data=list[Record],
            beside=PAGE_WITH_NEXT,
            types=_TYPES,
            description="Ordered by uuid and time.",
            rows=_COUNTED,
        ),
        _NOT_MODIFIED,
    ),
    errors=_REFUSALS,
)
LATEST = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/telemetry/latest",
    summary="Of each GPU the newest value of every field",
    description=_FORMATS,
    tag="telemetry",
    parameters=LatestWanted,
    answers=(
        Answer(
            data=list[Record],
            beside=PAGE,
            types=_TYPES,
            description="One record per GPU, at its last time.",
            rows=_COUNTED,
        ),
        _NOT_MODIFIED,
    ),
    errors=(NotAcceptable, Transient),
)
ENDPOINTS = (GPU_TELEMETRY, TELEMETRY, LATEST)
