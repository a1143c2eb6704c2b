"""The fleet in figures: every other question, counted."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.fleet.asked import Asked, unreported
from functions.query.fleet.conditions import boards, count_boards, find_busy_but_empty, find_idle, mean
from functions.query.fleet.energy import add_energy, sum_of_boards
from functions.query.fleet.errors import FIELDS as ERROR_FIELDS
from functions.query.fleet.errors import MEASURES as ERROR_MEASURES
from functions.query.fleet.errors import find_errors, tables_with_errors
from functions.query.fleet.measures import Measure, Spans
from functions.query.fleet.parts import Taken
from functions.query.fleet.questions import (
    HELD_BY_HEAT,
    HELD_BY_POWER,
    MEMORY,
    POWER,
    REASONS,
    SM_ACTIVE,
    UTILIZATION,
    compare,
    count_hosts,
)
from functions.query.fleet.reasons import find_throttled
from functions.query.fleet.series import Areas, Rises
from functions.query.fleet.window import format_known
from shared.api import fleet as api
from shared.expected import ExpectedGpus
from shared.records import chunk

_COUNTER, _AREA = Rises("energy_consumption_j"), Areas("power_draw")
_FIELDS: dict[str, Measure] = {
    "gpu_utilization": UTILIZATION,
    "memory_used_mb": MEMORY,
    "sm_active": SM_ACTIVE,
    "power_draw": POWER,
    "energy_consumption_j": _COUNTER,
    "throttle_reasons": REASONS,
    "power_violation_ns": HELD_BY_POWER,
    "thermal_violation_ns": HELD_BY_HEAT,
    **tables_with_errors(),
}
_THROTTLING = ("throttle_reasons", "power_violation_ns", "thermal_violation_ns")
#: Errors that are not only corrected ones.
_REAL = frozenset({"critical", "warning", "unknown", "application"})


def answer_summary(asked: Asked, wanted: api.SummaryWanted, setting: ExpectedGpus) -> dict[str, Any]:
    """Answer the fleet in figures."""
    taken = asked.measure([*_FIELDS.values(), _AREA, *ERROR_MEASURES])
    answer = asked.begin(taken, _FIELDS)
    seen = asked.last_seen(taken)
    newest_ms = pc.max(seen.column("last_ms")).as_py()
    uuids = chunk(taken[Spans()], "uuid")
    stale_before = asked.stale_before_ms(newest_ms or 0)
    return {
        **answer,
        **count_hosts(compare(asked, taken, setting)),
        "gpus_stale": pc.sum(pc.less(seen.column("last_ms"), stale_before)).as_py() or 0,
        "mig_instances": pc.sum(pc.match_substring(uuids, ":gi-")).as_py() or 0,
        **_count_idle(answer, taken, wanted),
        "throttled": _count_throttled(answer, taken),
        **_count_errors(answer, taken),
        "busy_but_empty": _count_busy_but_empty(answer, taken, wanted),
        "gpu_utilization": _rounded(pc.mean(mean(taken[UTILIZATION])).as_py(), 3),
        **_weigh(taken, stale_before),
        "newest_record": format_known(newest_ms),
        "age_s": None if newest_ms is None else max(asked.window.until_ms() - newest_ms, 0) / 1000,
    }


def _count_idle(answer: dict[str, Any], taken: Taken, wanted: api.SummaryWanted) -> dict[str, int | None]:
    """Count idle boards: of those with MIG, the ones all of whose instances are idle."""
    if unreported(answer, ["gpu_utilization"]):
        return {"idle": None, "idle_holding_memory": None}
    found = find_idle(taken[UTILIZATION], taken[MEMORY], taken[SM_ACTIVE], wanted.threshold, wanted.memory_mb)
    idle = chunk(found, "uuid")
    everyone = chunk(taken[UTILIZATION], "uuid")
    busy = pc.unique(boards(everyone.filter(pc.invert(pc.is_in(everyone, value_set=idle)))))
    found = found.filter(pc.invert(pc.is_in(boards(idle), value_set=busy)))
    holding = chunk(found.filter(pc.fill_null(found.column("holding_memory"), fill_value=False)), "uuid")
    return {
        "idle": count_boards(chunk(found, "uuid")),
        "idle_holding_memory": None if unreported(answer, ["memory_used_mb"]) else count_boards(holding),
    }


def _count_throttled(answer: dict[str, Any], taken: Taken) -> int | None:
    if unreported(answer, _THROTTLING):
        return None
    found = find_throttled(taken[REASONS], taken[HELD_BY_POWER], taken[HELD_BY_HEAT])
    return count_boards(pa.array(found, pa.string()))


def _count_errors(answer: dict[str, Any], taken: Taken) -> dict[str, int | None]:
    if unreported(answer, ERROR_FIELDS):
        return {"with_errors": None, "with_critical_errors": None}
    found = find_errors(taken)
    real = [uuid for uuid, row in found.items() if row["severity"] in _REAL]
    critical = [uuid for uuid, row in found.items() if row["severity"] == "critical"]
    return {
        "with_errors": count_boards(pa.array(real, pa.string())),
        "with_critical_errors": count_boards(pa.array(critical, pa.string())),
    }


def _count_busy_but_empty(answer: dict[str, Any], taken: Taken, wanted: api.SummaryWanted) -> int | None:
    if unreported(answer, ["gpu_utilization"]) or unreported(answer, ["sm_active"]):
        return None
    found = find_busy_but_empty(taken[UTILIZATION], taken[SM_ACTIVE], wanted.utilization, wanted.sm_active)
    return count_boards(chunk(found, "uuid"))


def _weigh(taken: Taken, stale_before: int) -> dict[str, Any]:
    """Add up power, of those that are not stale, and energy."""
    power = taken[POWER].filter(pc.greater_equal(taken[POWER].column("last_ms"), stale_before))
    watts = sum_of_boards(chunk(power, "uuid"), chunk(power, "last"))
    energy = add_energy(taken[_COUNTER], taken[_AREA])
    return {
        "power_kw": _rounded(None if watts is None else watts / 1000, 6),
        "energy_kwh": _rounded(energy.kwh, 6),
        "energy_from": list(energy.fields),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
