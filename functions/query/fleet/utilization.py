"""How busy the GPUs of each host, model, pod or namespace were."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from functions.query.fleet.asked import Asked
from functions.query.fleet.conditions import count_boards
from functions.query.fleet.measures import Measure, group, renamed
from functions.query.fleet.series import quantile
from functions.query.fleet.spread import RESOLUTION, Bins, Members
from shared.api import fleet as api
from shared.records import chunk

_LABELS = {"host": "hostname", "model": "modelname", "pod": "pod", "namespace": "namespace"}


def answer_utilization(asked: Asked, wanted: api.UtilizationWanted) -> dict[str, Any]:
    """Answer how busy each group was, the busiest first."""
    label = _LABELS[wanted.by]
    members = Members(label)
    fields: dict[str, Measure] = {field: Bins(label, field) for field in RESOLUTION}
    taken = asked.measure([members, *fields.values()])
    answer = asked.begin(taken, fields) | {"by": wanted.by}
    spreads = {field: spread(taken[measure]) for field, measure in fields.items()}
    groups = [
        {**member, **{field: of_group.get(member["name"]) for field, of_group in spreads.items()}}
        for member in count_members(taken[members])
    ]
    groups.sort(key=_busiest)
    return answer | {"groups": groups}


def _busiest(row: dict[str, Any]) -> tuple[float, bool, str]:
    busy = row["gpu_utilization"]
    return (-busy["avg"] if busy else 1.0, row["name"] is None, row["name"] or "")


def count_members(members: pa.Table) -> list[dict[str, Any]]:
    """Count GPUs, boards once, and records of each group."""
    grouped = members.group_by("name", use_threads=False).aggregate([("uuid", "list"), ("rows", "sum")])
    return [
        {"name": name, "gpus": count_boards(pa.array(uuids, pa.string())), "records": records}
        for name, uuids, records in zip(
            *(grouped.column(n).to_pylist() for n in ("name", "uuid_list", "rows_sum")), strict=True
        )
    ]


def spread(bins: pa.Table) -> dict[str | None, dict[str, float]]:
    """Describe how the values of each group spread, by the group's name."""
    names = chunk(bins, "name").dictionary_encode(null_encoding="encode")
    rows = pa.table({"name": names.indices, **{n: chunk(bins, n) for n in ("bin", "count", "sum", "max")}})
    rows = rows.sort_by([("name", "ascending"), ("bin", "ascending")]).combine_chunks()
    totals = group(rows, "name", [("count", "sum"), ("sum", "sum"), ("max", "max")])
    totals = renamed(totals, ("count", "sum", "max"))
    # The highest value of a bin stands for all in it.
    p95 = quantile(chunk(rows, "name"), chunk(rows, "max"), chunk(rows, "count"), 0.95)
    words = names.dictionary.to_pylist()
    found = dict(zip(p95.column("group").to_pylist(), p95.column("value").to_pylist(), strict=True))
    return {
        words[row["name"]]: {
            "avg": round(row["sum"] / row["count"], 4),
            "p95": round(found[row["name"]], 4),
            "max": row["max"],
        }
        for row in totals.to_pylist()
        if math.isfinite(row["sum"])
    }
