"""Which records a socket wants, and which of their fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.columns import KEY_COLUMNS
from shared.records import chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What is wanted; an empty list means all. A value object: equal ones share what is selected."""

    gpus: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    #: The columns of what is sent, after the time, those of the key among them; None: whatever there is.
    columns: tuple[str, ...] | None = None

    def select(self, table: pa.Table) -> pa.Table:
        """Keep the records that fit every list and have one of the fields; one chunk per column."""
        for column, names in (("uuid", self.gpus), ("hostname", self.hosts), ("modelname", self.models)):
            if not names:
                continue
            if column not in table.column_names:
                return table.slice(0, 0)
            table = table.filter(_matches(chunk(table, column), names))
        wanted = [name for name in self.columns or () if name not in KEY_COLUMNS]
        if wanted:
            table = _with_any(table, [name for name in wanted if name in table.column_names])
        return table.combine_chunks()


def _matches(values: pa.Array, names: Sequence[str]) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        found = _matches(values.dictionary, names)
        return found.take(values.indices)
    found = pc.is_in(values, value_set=pa.array([n for n in names if "*" not in n], pa.string()))
    patterns = [".*".join(re.escape(part) for part in n.split("*")) for n in names if "*" in n]
    if patterns:
        found = pc.or_(found, pc.match_substring_regex(values, f"^(?s:{'|'.join(patterns)})$"))
    return found


def _with_any(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Keep some columns, and the records that have a value in one of them."""
    there = None
    for name in names:
        valid = pc.is_valid(chunk(table, name))
        there = valid if there is None else pc.or_(there, valid)
    if there is None:
        return table.slice(0, 0)
    wanted = {"timestamp", *KEY_COLUMNS, *names}
    return table.select([n for n in table.column_names if n in wanted]).filter(there)
