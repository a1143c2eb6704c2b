"""The shapes of what fleet questions are answered with.

Every answer says over which window it is and, in `not_reported`, which fields it wanted and no record had:
what depends on these alone is null, never zero and never an empty list.
"""

from __future__ import annotations

from typing import Literal

from shared.api.endpoint import Shape

Severity = Literal["critical", "warning", "unknown", "application", "corrected"]


class WindowUsed(Shape):
    """The window of an answer, [start_time, end_time).

    `basis` says why: `given`, the last hour by the `clock`, or the `latest` hour that is stored, where
    nothing newer is.
    """

    start_time: str
    end_time: str
    basis: Literal["given", "clock", "latest"]


class FleetAnswer(Shape):
    """What every answer says: its window, GPUs with records in it, and fields that none of these had."""

    window: WindowUsed
    gpus_seen: int
    not_reported: list[str]


class Summary(FleetAnswer):
    """The fleet in figures. A board is one GPU here; its MIG instances count as `mig_instances`."""

    gpus_expected: int
    gpus_missing: int
    gpus_stale: int
    mig_instances: int
    hosts_seen: int
    hosts_expected: int
    hosts_missing: int
    idle: int | None
    idle_holding_memory: int | None
    throttled: int | None
    with_errors: int | None
    with_critical_errors: int | None
    busy_but_empty: int | None
    gpu_utilization: float | None
    power_kw: float | None
    energy_kwh: float | None
    energy_from: list[Literal["energy_consumption_j", "power_draw"]]
    newest_record: str | None
    age_s: float | None


class OfGpu(Shape):
    """Which GPU, by its newest labels; pod and namespace as of its last record in the window."""

    uuid: str
    gpu_id: str | None
    hostname: str | None
    model: str | None
    pod: str | None
    namespace: str | None


class GpusAnswer(FleetAnswer):
    """`gpus_reporting` had what decides; `count` were found."""

    gpus_reporting: int
    count: int | None


class IdleGpu(OfGpu):
    """A GPU that did nothing. `since` is its first such record; `or_earlier`, that it was there before."""

    since: str
    or_earlier: bool
    last_seen: str
    gpu_utilization_avg: float
    gpu_utilization_max: float
    sm_active_avg: float | None
    memory_used_mb: float | None
    holding_memory: bool | None


class Idle(GpusAnswer):
    """GPUs whose every gpu_utilization was at or below the threshold, most memory held first."""

    threshold: float
    memory_mb: float
    holding_memory: int | None
    gpus: list[IdleGpu] | None


class MissingGpu(Shape):
    """A GPU that was there before."""

    uuid: str
    gpu_id: str | None
    model: str | None
    last_seen: str


class HostMissing(Shape):
    """A host that lacks GPUs. `unnamed` of the missing were never seen, so nobody knows their names."""

    hostname: str | None
    expected: int
    expected_from: Literal["setting", "history"]
    seen: int
    missing: int
    unnamed: int
    last_seen: str | None
    gpus: list[MissingGpu]


class Missing(FleetAnswer):
    """Hosts with fewer GPUs than expected, those without any first."""

    gpus_expected: int
    gpus_missing: int
    hosts_seen: int
    hosts_expected: int
    hosts_missing: int
    hosts: list[HostMissing]


class Reason(Shape):
    """A reason of NVIDIA's, in what share of the records it stood, and when first and last."""

    reason: str
    bit: int
    throttles: bool
    share: float
    first_seen: str
    last_seen: str


class ThrottledGpu(OfGpu):
    """A GPU that was held back; `throttled_now` in its last record."""

    share: float | None
    throttled_now: bool | None
    first_seen: str | None
    last_seen: str | None
    reasons: list[Reason] | None
    power_violation_s: float | None
    thermal_violation_s: float | None


class Throttled(GpusAnswer):
    """GPUs that were held back, the most often first."""

    gpus: list[ThrottledGpu] | None


class Xid(Shape):
    """An XID code. `since_before`: it stood there already in the window's first record."""

    code: int
    meaning: str
    severity: Severity
    events: int
    since_before: bool
    first_seen: str
    last_seen: str


class Increase(Shape):
    """A counter: how much it rose in the window, when first and last, and where it stands."""

    increase: float
    total: float
    first_seen: str | None
    last_seen: str | None


class GpuErrors(OfGpu):
    """A GPU with errors; `severity` is that of the worst."""

    severity: Severity
    first_seen: str | None
    last_seen: str | None
    xids: list[Xid] | None
    ecc_single_bit: Increase | None
    ecc_double_bit: Increase | None
    remapped_rows_correctable: Increase | None
    remapped_rows_uncorrectable: Increase | None
    row_remap_pending: bool | None
    row_remap_failure: bool | None


class Errors(GpusAnswer):
    """GPUs with errors, the worst first."""

    by_severity: dict[str, int] | None
    gpus: list[GpuErrors] | None


class BusyGpu(OfGpu):
    """A GPU that says it is busy, and whose SMs do little."""

    gpu_utilization_avg: float
    sm_active_avg: float
    power_draw_avg: float | None


class BusyButEmpty(GpusAnswer):
    """GPUs that are busy but empty, the emptiest first."""

    utilization: float
    sm_active: float
    gpus: list[BusyGpu] | None


class TopGpu(OfGpu):
    """A GPU and its value."""

    value: float
    records: int


class Top(GpusAnswer):
    """GPUs in order of one field."""

    field: str
    unit: str
    agg: Literal["avg", "max", "min", "last", "p95"]
    order: Literal["asc", "desc"]
    gpus: list[TopGpu] | None


class Spread(Shape):
    """How the records of a group spread; p95 to 0.1 %, 0.001, 16 MiB or 1 W."""

    avg: float
    p95: float
    max: float


class Group(Shape):
    """The records of one host, model, pod or namespace; null is that of records without such a label."""

    name: str | None
    gpus: int
    records: int
    gpu_utilization: Spread | None
    sm_active: Spread | None
    tensor_active: Spread | None
    dram_active: Spread | None
    memory_used_mb: Spread | None
    power_draw: Spread | None


class Utilization(FleetAnswer):
    """Groups, the busiest first."""

    by: Literal["host", "model", "pod", "namespace"]
    groups: list[Group]
