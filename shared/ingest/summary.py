"""When and of whom the records of a block are, for the report."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from shared.ingest.identity import texts
from shared.ingest.report import Report


class Summary:
    """Notes in reports when and of whom records are; for any thread.

    From block to block the GPUs are mostly the same: their names are not made anew then.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[pa.Array, frozenset[str]]] = {}

    def note(self, table: pa.Table, report: Report) -> None:
        """Note it of one block's records."""
        times = pc.min_max(table.column("timestamp").cast(pa.int64()))
        report.first_ms, report.last_ms = times["min"].as_py(), times["max"].as_py()
        report.gpus = set(self._names(table, "uuid"))
        if "hostname" in table.column_names:
            report.hosts = set(self._names(table, "hostname"))

    def _names(self, table: pa.Table, column: str) -> frozenset[str]:
        found = texts(pc.unique(table.column(column))).drop_null()
        last = self._last.get(column)
        same = last is not None and len(last[0]) == len(found)
        if last is None or not same or not pc.all(pc.is_in(found, value_set=last[0])).as_py():
            last = self._last[column] = found, frozenset(found.to_pylist())
        return last[1]
