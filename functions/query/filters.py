"""Which GPUs, and which records, a question is about."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from shared.api.records import FILTERED_LABELS, GpuFilter
from shared.records import STATUS, chunk


def label_patterns(wanted: GpuFilter) -> dict[str, str]:
    """List the labels that a filter names, and what each must match."""
    return {
        label: pattern
        for name, label in FILTERED_LABELS.items()
        if (pattern := getattr(wanted, name)) is not None
    }


def match_labels(table: pa.Table, patterns: Mapping[str, str]) -> pa.Table:
    """Keep the rows whose labels match; `*` stands for anything, also for nothing, but not for null."""
    for label, pattern in patterns.items():
        if label not in table.column_names:
            return table.slice(0, 0)
        table = table.filter(_matches(chunk(table, label), pattern))
    return table


def _matches(values: pa.Array, pattern: str) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        return _matches(values.dictionary, pattern).take(values.indices)
    if "*" not in pattern:
        return pc.equal(values, pattern)
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    return pc.match_substring_regex(values, f"^(?s:{expression})$")


def select_gpus(summary: pa.Table, wanted: GpuFilter) -> pa.Table:
    """Keep the GPUs of a summary with status that are wanted, by their newest labels."""
    table = match_labels(summary, label_patterns(wanted))
    return table if wanted.status is None else table.filter(pc.equal(table.column(STATUS), wanted.status))
