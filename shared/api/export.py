"""The endpoints of query: exporting all rows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint, Open
from shared.api.records import InWindow
from shared.errors import Transient

ARROW = "application/vnd.apache.arrow.stream"


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
ENDPOINTS = (EXPORT_PLAN, EXPORT)
