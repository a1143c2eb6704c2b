"""The GPUs with the most or the least of a field."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.columns import resolve_field, stored_columns
from functions.query.fleet.asked import Asked
from functions.query.fleet.conditions import mean
from functions.query.fleet.measures import Measure, Stats, group, renamed
from functions.query.fleet.parts import Taken
from functions.query.fleet.series import quantile
from functions.query.fleet.spread import Ranks
from shared.api import fleet as api
from shared.errors import InvalidInput
from shared.fields import FIELDS
from shared.records import KEY, LABELS, chunk


def find_field(asked: str, summary: pa.Table) -> str:
    """Find the metric that is meant by any of a field's names.

    Raises:
        InvalidInput: There is no such field, or it is no number.
    """
    field = resolve_field(asked, lambda: stored_columns(summary), "field")
    if field in {*KEY, *LABELS}:
        raise InvalidInput(f"field={asked!r} is no number: GPUs are ranked by a metric", parameter="field")
    return field


def answer_top(asked: Asked, wanted: api.TopWanted) -> dict[str, Any]:
    """Answer which GPUs have the most or the least of a field."""
    field = find_field(wanted.field, asked.summary)
    measure: Measure = Ranks(field) if wanted.agg == "p95" else Stats(field)
    taken = asked.measure([measure])
    answer = asked.begin(taken, {field: measure}) | {
        "field": field,
        "unit": FIELDS[field].unit if field in FIELDS else "",
        "agg": wanted.agg,
        "order": wanted.order,
    }
    if answer["not_reported"]:
        return answer | {"gpus_reporting": 0, "count": None, "gpus": None}
    ranked = rank_gpus(taken, measure, wanted)
    best = ranked.slice(0, wanted.limit).to_pylist()
    names = asked.name_gpus([row["uuid"] for row in best], taken)
    gpus = [
        name | {"value": row["value"], "records": row["records"]}
        for name, row in zip(names, best, strict=True)
    ]
    return answer | {"gpus_reporting": ranked.num_rows, "count": len(gpus), "gpus": gpus}


def rank_gpus(taken: Taken, measure: Measure, wanted: api.TopWanted) -> pa.Table:
    """Put GPUs in order of one value each: uuid, value, records."""
    table = taken[measure]
    if wanted.agg == "p95":
        found = _p95(table)
    else:
        column = {"avg": "sum"}.get(wanted.agg, wanted.agg)
        values = mean(table) if wanted.agg == "avg" else chunk(table, column)
        found = pa.table({"uuid": chunk(table, "uuid"), "value": values, "records": chunk(table, "count")})
    # The mean of what is hardly a number any more is none.
    found = found.filter(pc.is_finite(found.column("value")))
    order = "descending" if wanted.order == "desc" else "ascending"
    return found.sort_by([("value", order), ("uuid", "ascending")])


def _p95(ranks: pa.Table) -> pa.Table:
    numbers = chunk(ranks, "uuid").dictionary_encode()
    rows = pa.table({"uuid": numbers.indices, "value": chunk(ranks, "value"), "count": chunk(ranks, "count")})
    rows = rows.sort_by([("uuid", "ascending"), ("value", "ascending")]).combine_chunks()
    found = quantile(chunk(rows, "uuid"), chunk(rows, "value"), chunk(rows, "count"), 0.95)
    records = renamed(group(rows, "uuid", [("count", "sum")]), ("records",))
    places = pc.index_in(chunk(found, "group"), value_set=chunk(records, "uuid"))
    return pa.table({
        "uuid": numbers.dictionary.take(chunk(found, "group")),
        "value": chunk(found, "value"),
        "records": chunk(records, "records").take(places),
    })  # fmt: skip
