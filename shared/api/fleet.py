"""The endpoints of query: what the fleet did, over a window."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint, Parameters
from shared.api.fleet_answers import (
    BusyButEmpty,
    Errors,
    Idle,
    Missing,
    Summary,
    Throttled,
    Top,
    Utilization,
)
from shared.api.records import GpuFilter, InWindow
from shared.api.types import Count
from shared.errors import LimitExceeded, Transient

#: GPUs of one /api/v1/fleet/top, unless limit= says otherwise, and at most.
TOP, MOST_TOP = 10, 10_000

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Mebibytes = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Idle = Annotated[Percent, Field(description="the highest gpu_utilization (%) at which a GPU is idle")]
_Held = Annotated[Mebibytes, Field(description="memory (MiB) above which an idle GPU holds memory")]
_Busy = Annotated[Percent, Field(description="the mean gpu_utilization (%) above which a GPU is busy")]
_Empty = Annotated[Ratio, Field(description="the mean sm_active below which a busy GPU is empty")]


class FleetWanted(InWindow, GpuFilter):
    """Over which window, and of which GPUs; the last hour unless given."""


class IdleWanted(FleetWanted):
    """What counts as idle."""

    threshold: _Idle = 5.0
    memory_mb: _Held = 1024.0


class BusyWanted(FleetWanted):
    """What counts as busy but empty."""

    utilization: _Busy = 90.0
    sm_active: _Empty = 0.2


class SummaryWanted(IdleWanted, BusyWanted):
    """What counts as idle, and as busy but empty."""


class TopWanted(FleetWanted):
    """By which field, and how a GPU's values become one."""

    field: Annotated[
        str, Field(min_length=1, description="any metric, also by DCGM's name: /api/v1/fields lists them")
    ]
    agg: Annotated[
        Literal["avg", "max", "min", "last", "p95"], Field(description="what of a GPU's values is compared")
    ] = "avg"
    order: Annotated[Literal["asc", "desc"], Field(description="lowest or highest first")] = "desc"
    limit: Annotated[
        Count,
        Field(
            le=MOST_TOP,
            description=f"how many GPUs, at most {MOST_TOP}",
            json_schema_extra={"maximum": MOST_TOP},
        ),
    ] = TOP


class UtilizationWanted(FleetWanted):
    """By what GPUs are grouped."""

    by: Annotated[
        Literal["host", "model", "pod", "namespace"],
        Field(description="a label of each record: a GPU may be in several groups, one after the other"),
    ] = "host"


def _declare(path: str, summary: str, parameters: type[Parameters], data: Any, description: str) -> Endpoint:
    return Endpoint(
        service="query",
        method="GET",
        path=f"/api/v1/fleet/{path}",
        summary=summary,
        description=(
            f"{description} Over the window given, else over the last hour, else over the newest hour that "
            "is stored: `window` says which. A field that no record had is in `not_reported`, and what "
            "depends on it is null."
        ),
        tag="fleet",
        parameters=parameters,
        answers=(
            Answer(data=data, description="The answer, with an ETag."),
            Answer(status=304, types=(), description="The same as the ETag in If-None-Match names."),
        ),
        errors=(LimitExceeded, Transient),
    )


SUMMARY = _declare(
    "summary",
    "The fleet in figures",
    SummaryWanted,
    Summary,
    "GPUs expected are those that EXPECTED_GPUS says, or the most that a host had at one time. Power is of "
    "the GPUs that are not stale; energy is taken from the counter where a GPU has one, else from its power, "
    "without gaps. Boards count once, however many MIG instances they have.",
)
IDLE = _declare("idle", "GPUs that did nothing", IdleWanted, Idle, "Of all records that say gpu_utilization.")
MISSING = _declare(
    "missing", "GPUs and hosts that are missing", FleetWanted, Missing, "Expected and not seen in the window."
)
THROTTLED = _declare(
    "throttled",
    "GPUs that were held back, and why",
    FleetWanted,
    Throttled,
    "Reasons are NVIDIA's; being idle and set application clocks are not throttling.",
)
ERRORS = _declare(
    "errors",
    "GPUs with errors: XID, ECC, remapped rows",
    FleetWanted,
    Errors,
    "An XID stays in the records until the next one: a change to another code is an event.",
)
BUSY_BUT_EMPTY = _declare(
    "busy-but-empty",
    "GPUs that look busy and do little",
    BusyWanted,
    BusyButEmpty,
    "A high gpu_utilization says that a kernel ran, a low sm_active that it used little of the GPU.",
)
TOP_GPUS = _declare("top", "The GPUs with the most or least of a field", TopWanted, Top, "Any stored field.")
UTILIZATION = _declare(
    "utilization",
    "Utilization by host, model, pod or namespace",
    UtilizationWanted,
    Utilization,
    "By the labels of each record.",
)
ENDPOINTS = (SUMMARY, IDLE, MISSING, THROTTLED, ERRORS, BUSY_BUT_EMPTY, TOP_GPUS, UTILIZATION)
