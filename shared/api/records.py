"""What questions about GPUs and their records have in common: the window, the filters, the shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from shared.api.endpoint import Open, Parameters, Shape
from shared.api.types import Time

#: What a filter compares, by the name of its parameter; `status` is no label.
FILTERED_LABELS = {
    "hostname": "hostname",
    "model": "modelname",
    "pod": "pod",
    "namespace": "namespace",
    "cluster": "cluster",
}
Status = Literal["active", "stale"]
AsOf = Annotated[
    Literal["now", "latest"],
    Field(description="status against the clock, or against the newest record of all (histories)"),
]
#: What becomes of the values of a field within a step of time.
Aggregate = Literal["avg", "min", "max", "last", "p95", "count"]
_MATCH = "exactly, or with * for anything"


class InWindow(Parameters):
    """A window of time, [start_time, end_time)."""

    start_time: Annotated[Time | None, Field(description="the first time included")] = None
    end_time: Annotated[Time | None, Field(description="the first time no longer included")] = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start_time is not None and self.end_time is not None and self.start_time > self.end_time:
            raise ValueError("start_time is after end_time: the window is [start_time, end_time)")
        return self


class GpuFilter(Parameters):
    """Which GPUs; what is left out matches all."""

    hostname: Annotated[str | None, Field(min_length=1, description=f"host, {_MATCH}")] = None
    model: Annotated[str | None, Field(min_length=1, description=f"model, {_MATCH}")] = None
    pod: Annotated[str | None, Field(min_length=1, description=f"pod, {_MATCH}")] = None
    namespace: Annotated[str | None, Field(min_length=1, description=f"namespace, {_MATCH}")] = None
    cluster: Annotated[str | None, Field(min_length=1, description=f"cluster, {_MATCH}")] = None
    status: Annotated[Status | None, Field(description="active or stale")] = None
    as_of: AsOf = "now"


class Record(Open):
    """One GPU at one instant: the fixed metrics, null where not reported, and whatever else was.

    Where fields are asked for, these and the first four are all that it has.
    """

    timestamp: str
    gpu_id: str | None
    uuid: str
    hostname: str | None
    gpu_utilization: float | None = None
    memory_utilization: float | None = None
    memory_used_mb: float | None = None
    memory_free_mb: float | None = None
    temperature: float | None = None
    power_draw: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None


class Gpu(Shape):
    """A GPU, or a MIG instance of one: what it is, where, and when it was heard of.

    Its labels are the newest that were reported; null where none was.
    """

    id: str | None
    uuid: str
    hostname: str | None
    name: str | None
    device: str | None
    status: Status
    cluster: str | None
    pod: str | None
    namespace: str | None
    container: str | None
    driver_version: str | None
    gpu_instance_id: str | None
    gpu_instance_profile: str | None
    first_seen: str
    last_seen: str


#: What stands beside a page of records.
PAGE: dict[str, Any] = {"count": int}
#: What stands beside a page that others follow: `next` is the cursor of the next one, null at the end.
PAGE_WITH_NEXT: dict[str, Any] = {"count": int, "next": str | None}
