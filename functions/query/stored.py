"""The REST answers about what is stored and how much, from index and inventory: no segment is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from functions.query.groups import group_gpus
from functions.query.inventory import Inventory, View
from functions.query.kept import KeptAnswers
from functions.query.render import format_times
from shared.api import stored as api
from shared.api.endpoint import Parameters
from shared.fields import COUNTERS, FIELDS, FIXED_METRICS, LABELS_SAY, find_other_names
from shared.http import Route
from shared.ingest.dialect import HEADS
from shared.records import FIRST_MS, LABELS, LAST_MS, chunk
from shared.store.gpus import Known
from shared.store.segment import SegmentInfo

#: Columns of a summary that are no fields.
_NOT_FIELDS = frozenset({"uuid", FIRST_MS, LAST_MS})


class StoredRoutes:
    """The routes of fields, clusters and stats."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._kept = KeptAnswers()

    def routes(self) -> list[Route]:
        """List what is served."""
        return [
            Route(api.LIST_FIELDS, self._list_fields),
            Route(api.LIST_CLUSTERS, self._list_clusters),
            Route(api.GET_STATS, self._get_stats),
        ]

    def _list_fields(self, request: Request, wanted: api.FieldsWanted) -> Response:
        known = self._inventory.view("latest").known
        depends = (known.version, wanted)
        return self._kept.answer(request, depends, lambda: _dump_list(list_fields(known, every=wanted.all)))

    def _list_clusters(self, request: Request, wanted: api.ClustersWanted) -> Response:
        view = self._inventory.view(wanted.as_of)
        return self._kept.answer(request, (view.state, wanted), lambda: _dump_list(_list_clusters(view)))

    def _get_stats(self, request: Request, _wanted: Parameters) -> Response:
        known = self._inventory.view("latest").known
        return self._kept.answer(request, ("stats", known.version), lambda: _dump(data=build_stats(known)))


def _dump(**members: Any) -> bytes:
    return orjson.dumps({"success": True, **members}) + b"\n"


def _dump_list(items: Sequence[dict[str, Any]]) -> bytes:
    return _dump(data=items, count=len(items))


def _count_by_field(summary: pa.Table) -> dict[str, int]:
    """Count the GPUs that have reported each field."""
    names = [name for name in summary.column_names if name not in _NOT_FIELDS]
    counts = {name: summary.num_rows - summary.column(name).null_count for name in names}
    return {name: count for name, count in counts.items() if count}


def list_fields(known: Known, *, every: bool) -> list[dict[str, Any]]:
    """List the fields that are stored, or every one that is known: fixed metrics, others, labels."""
    counts = _count_by_field(known.summary)
    metrics = set(counts) - set(LABELS)
    if every:
        metrics |= set(FIELDS)
    names = [n for n in FIXED_METRICS if n in metrics] + sorted(metrics - set(FIXED_METRICS))
    described = [_describe_metric(name, counts.get(name, 0)) for name in names]
    labels = [name for name in LABELS if every or name in counts]
    return described + [_describe_label(name, counts.get(name, 0)) for name in labels]


def _describe_metric(name: str, gpus: int) -> dict[str, Any]:
    field = FIELDS.get(name)
    return {
        "name": name,
        "kind": "metric",
        "unit": field.unit if field else "",
        "description": field.description if field else "not catalogued",
        "minimum": _finite(field.minimum) if field else None,
        "maximum": _finite(field.maximum) if field else None,
        "counter": name in COUNTERS,
        "names": find_other_names(name),
        "gpus": gpus,
        "stored": gpus > 0,
    }


def _describe_label(name: str, gpus: int) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "label",
        "unit": "",
        "description": LABELS_SAY[name],
        "minimum": None,
        "maximum": None,
        "counter": False,
        "names": [head for head in HEADS[name] if head != name],
        "gpus": gpus,
        "stored": gpus > 0,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _list_clusters(view: View) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "hosts": len(group.others["hostname"]),
            "gpus": group.gpus,
            "active": group.active,
            "stale": group.gpus - group.active,
            "models": group.others["modelname"],
            "first_seen": group.first_seen,
            "last_seen": group.last_seen,
        }
        for group in group_gpus(view.gpus, "cluster", ("hostname", "modelname"))
    ]


def build_stats(known: Known) -> dict[str, Any]:
    """Build the figures of what is stored."""
    segments, summary = known.segments, known.summary
    rows, size = sum(s.rows for s in segments), sum(s.size_bytes for s in segments)
    return {
        "rows": rows,
        "bytes": size,
        "bytes_per_row": round(size / rows, 3) if rows else None,
        "segments": len(segments),
        "levels": [{"level": k, **v} for k, v in _sum_by(segments, lambda s: s.level)],
        "days": [{"day": k, **v} for k, v in _sum_by(segments, _day)],
        "gpus": summary.num_rows,
        "hosts": _count_distinct(summary, "hostname"),
        "clusters": _count_distinct(summary, "cluster"),
        "fields": len(_count_by_field(summary)),
        "first_time": _format_time(min((s.min_ms for s in segments), default=None)),
        "last_time": _format_time(max((s.max_ms for s in segments), default=None)),
        "version": known.version,
    }


def _day(segment: SegmentInfo) -> str:
    return f"{segment.day[:4]}-{segment.day[4:6]}-{segment.day[6:]}"


def _sum_by(
    segments: Iterable[SegmentInfo], key: Callable[[SegmentInfo], Any]
) -> list[tuple[Any, dict[str, int]]]:
    sums: dict[Any, dict[str, int]] = {}
    for segment in segments:
        found = sums.setdefault(key(segment), {"segments": 0, "rows": 0, "bytes": 0})
        found["segments"] += 1
        found["rows"] += segment.rows
        found["bytes"] += segment.size_bytes
    return sorted(sums.items())


def _count_distinct(summary: pa.Table, name: str) -> int:
    return int(pc.count_distinct(chunk(summary, name)).as_py()) if name in summary.column_names else 0


def _format_time(ms: int | None) -> str | None:
    return None if ms is None else str(format_times(pa.array([ms], pa.int64()))[0].as_py())
