"""The questions that are answered with a list: idle, busy but empty, throttled, errors, missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from functions.query.fleet.asked import Asked, unreported
from functions.query.fleet.conditions import find_busy_but_empty, find_idle, look_up, mean
from functions.query.fleet.errors import FIELDS as ERROR_FIELDS
from functions.query.fleet.errors import MEASURES as ERROR_MEASURES
from functions.query.fleet.errors import find_errors, tables_with_errors
from functions.query.fleet.measures import Measure, Spans, Stats, Values
from functions.query.fleet.missing import Host, compare_hosts
from functions.query.fleet.parts import Taken
from functions.query.fleet.reasons import find_throttled
from functions.query.fleet.series import Rises
from functions.query.fleet.window import format_known, format_ms
from functions.query.fleet.xid import SEVERITIES
from shared.api import fleet as api
from shared.expected import ExpectedGpus
from shared.records import chunk

UTILIZATION, SM_ACTIVE = Stats("gpu_utilization"), Stats("sm_active")
MEMORY, POWER = Stats("memory_used_mb"), Stats("power_draw")
REASONS = Values("throttle_reasons")
HELD_BY_POWER, HELD_BY_HEAT = Rises("power_violation_ns"), Rises("thermal_violation_ns")


def answer_idle(asked: Asked, wanted: api.IdleWanted) -> dict[str, Any]:
    """Answer which GPUs did nothing."""
    measures = {"gpu_utilization": UTILIZATION, "memory_used_mb": MEMORY, "sm_active": SM_ACTIVE}
    taken = asked.measure(measures.values())
    answer = asked.begin(taken, measures)
    settings = {"threshold": wanted.threshold, "memory_mb": wanted.memory_mb}
    if unreported(answer, ["gpu_utilization"]):
        return answer | _none() | settings | {"holding_memory": None}
    found = find_idle(taken[UTILIZATION], taken[MEMORY], taken[SM_ACTIVE], wanted.threshold, wanted.memory_mb)
    began = asked.first_seen()

    def render(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "since": format_ms(row["since_ms"]),
            "or_earlier": began.get(row["uuid"], row["since_ms"]) < asked.window.start_ms,
            "last_seen": format_ms(row["last_ms"]),
            "gpu_utilization_avg": _rounded(row["gpu_utilization_avg"]),
            "gpu_utilization_max": row["gpu_utilization_max"],
            "sm_active_avg": _rounded(row["sm_active_avg"]),
            "memory_used_mb": row["memory_used_mb"],
            "holding_memory": row["holding_memory"],
        }

    holding = None if unreported(answer, ["memory_used_mb"]) else _count_true(found.column("holding_memory"))
    gpus = _render(asked, taken, _by_uuid(found), render)
    return answer | _some(taken, UTILIZATION, gpus=gpus) | settings | {"holding_memory": holding}


def answer_busy_but_empty(asked: Asked, wanted: api.BusyWanted) -> dict[str, Any]:
    """Answer which GPUs look busy and do little."""
    measures = {"gpu_utilization": UTILIZATION, "sm_active": SM_ACTIVE, "power_draw": POWER}
    taken = asked.measure(measures.values())
    answer = asked.begin(taken, measures)
    settings = {"utilization": wanted.utilization, "sm_active": wanted.sm_active}
    if unreported(answer, ["gpu_utilization"]) or unreported(answer, ["sm_active"]):
        return answer | _none() | settings
    found = find_busy_but_empty(taken[UTILIZATION], taken[SM_ACTIVE], wanted.utilization, wanted.sm_active)
    power = look_up(chunk(found, "uuid"), taken[POWER].append_column("mean", mean(taken[POWER])), "mean")
    found = found.append_column("power_draw_avg", power)
    names = ("gpu_utilization_avg", "sm_active_avg", "power_draw_avg")
    gpus = _render(asked, taken, _by_uuid(found), lambda row: {name: _rounded(row[name]) for name in names})
    return answer | _some(taken, UTILIZATION, SM_ACTIVE, gpus=gpus) | settings


def answer_throttled(asked: Asked, _wanted: api.FleetWanted) -> dict[str, Any]:
    """Answer which GPUs were held back, and why."""
    measures: dict[str, Measure] = {
        "throttle_reasons": REASONS,
        "power_violation_ns": HELD_BY_POWER,
        "thermal_violation_ns": HELD_BY_HEAT,
    }
    taken = asked.measure(measures.values())
    answer = asked.begin(taken, measures)
    if unreported(answer, measures):
        return answer | _none()
    found = find_throttled(taken[REASONS], taken[HELD_BY_POWER], taken[HELD_BY_HEAT])

    def render(row: dict[str, Any]) -> dict[str, Any]:
        times = {"first_seen": format_known(row["first_ms"]), "last_seen": format_known(row["last_ms"])}
        return {k: v for k, v in row.items() if k not in ("first_ms", "last_ms")} | times

    gpus = _render(asked, taken, found, render)
    return answer | _some(taken, *measures.values(), gpus=gpus)


def answer_errors(asked: Asked, _wanted: api.FleetWanted) -> dict[str, Any]:
    """Answer which GPUs have errors."""
    taken = asked.measure(ERROR_MEASURES)
    measures = tables_with_errors()
    answer = asked.begin(taken, measures)
    if unreported(answer, ERROR_FIELDS):
        return answer | _none() | {"by_severity": None}
    found = find_errors(taken)
    counts = Counter(row["severity"] for row in found.values())
    gpus = _render(asked, taken, found, lambda row: row)
    by_severity = {severity: counts[severity] for severity in SEVERITIES}
    return answer | _some(taken, *measures.values(), gpus=gpus) | {"by_severity": by_severity}


def answer_missing(asked: Asked, setting: ExpectedGpus) -> dict[str, Any]:
    """Answer which GPUs and hosts are missing."""
    taken = asked.measure([])
    hosts = compare(asked, taken, setting)
    return {
        **asked.begin(taken, {}),
        **count_hosts(hosts),
        "hosts": [host.render() for host in hosts if host.missing()],
    }


def compare(asked: Asked, taken: Taken, setting: ExpectedGpus) -> list[Host]:
    """Compare what is expected of each host that is asked for with what was seen."""
    whole = asked.is_of_hosts()
    return compare_hosts(
        asked.known_rows(),
        frozenset(taken[Spans()].column("uuid").to_pylist()),
        end_ms=asked.window.end_ms,
        silence_ms=int(asked.stale_after_s * 1000),
        setting=setting if whole else ExpectedGpus(None, {}),
        named=asked.select_hosts(setting.by_host) if whole else (),
    )


def count_hosts(hosts: Iterable[Host]) -> dict[str, int]:
    """Count hosts, and the GPUs that they should have."""
    hosts = list(hosts)
    named = [host for host in hosts if host.name is not None and host.expected]
    return {
        "gpus_expected": sum(host.expected for host in hosts),
        "gpus_missing": sum(host.missing() for host in hosts),
        "hosts_seen": sum(host.name is not None and bool(host.seen) for host in hosts),
        "hosts_expected": len(named),
        "hosts_missing": sum(not host.seen for host in named),
    }


def _none() -> dict[str, Any]:
    return {"gpus_reporting": 0, "count": None, "gpus": None}


def _some(taken: Taken, *measures: Measure, gpus: list[dict[str, Any]]) -> dict[str, Any]:
    reporting: set[str] = set()
    for measure in measures:
        reporting |= set(taken[measure].column("uuid").to_pylist())
    return {"gpus_reporting": len(reporting), "count": len(gpus), "gpus": gpus}


def _by_uuid(found: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["uuid"]: row for row in found.to_pylist()}


def _render(
    asked: Asked,
    taken: Taken,
    found: Mapping[str, dict[str, Any]],
    render: Callable[[dict[str, Any]], dict[str, Any]],
) -> list[dict[str, Any]]:
    names = asked.name_gpus(list(found), taken)
    return [name | render(row) for name, row in zip(names, found.values(), strict=True)]


def _count_true(values: Any) -> int:
    return sum(value is True for value in values.to_pylist())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
