"""The rows of an answer become Parquet files, one for each UTC day.

The types are those that every reader knows: text, UTC timestamps in milliseconds, doubles, integers. The
columns that records usually have are in every file, so that the files of an export mostly have one schema.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from local_runtime.backup.answer import Scan, iter_batches
from local_runtime.backup.files import hash_file, parquet_name, replacing
from local_runtime.backup.manifest import File
from local_runtime.backup.parts import DAY_MS, Gpu, format_day
from shared.fields import FIXED_METRICS
from shared.records import KEY, LABELS, TEXT, TIMESTAMP, VERSION

ROW_GROUP_ROWS = 128 * 1024

_TYPES = {
    "uuid": TEXT,
    "timestamp": TIMESTAMP,
    **dict.fromkeys(LABELS, TEXT),
    "received_at": pa.int64(),
    "upload_id": TEXT,
    "number": pa.int32(),
}
_FIRST = (*KEY, *LABELS, *FIXED_METRICS)

#: Takes rows, and leaves some out.
Keep = Callable[[pa.Table], pa.Table]


def order_columns(names: Iterable[str]) -> list[str]:
    """Put columns into their order: key, labels, the usual metrics, other metrics, versions."""
    others = sorted(set(names) - {*_FIRST, *VERSION})
    return [*_FIRST, *others, *VERSION]


def leave_out_later(until_ms: int, gpus: Sequence[Gpu]) -> Keep:
    """Make what leaves rows out that came after the export began.

    A later row stays where the GPU had records around that time already: compaction may have dropped an older
    row because this one says all that it said.
    """
    uuids = pa.array([gpu.uuid for gpu in gpus], pa.string())
    first = pa.array([gpu.first_ms for gpu in gpus], pa.int64())
    last = pa.array([gpu.last_ms for gpu in gpus], pa.int64())

    def keep(rows: pa.Table) -> pa.Table:
        earlier = pc.less(rows.column("received_at"), until_ms)
        if pc.all(earlier).as_py():
            return rows
        place = pc.index_in(rows.column("uuid").cast(pa.string()), value_set=uuids)
        times = rows.column("timestamp").cast(pa.int64())
        known = pc.and_(
            pc.less_equal(first.take(place.combine_chunks()), times.combine_chunks()),
            pc.less_equal(times.combine_chunks(), last.take(place.combine_chunks())),
        )
        return rows.filter(pc.or_(earlier.combine_chunks(), pc.fill_null(known, False)))  # noqa: FBT003

    return keep


def write_days(answer: Path, scan: Scan, folder: Path, part: int, keep: Keep) -> list[File]:
    """Write the rows of an answer as files by day; returns those that came to be, each whole."""
    names = order_columns(scan.columns)
    schema = pa.schema([(name, _TYPES.get(name, pa.float64())) for name in names])
    days: dict[int, _Day] = {}
    with contextlib.ExitStack() as stack:
        for batch in iter_batches(answer):
            rows = _fit(keep(pa.Table.from_batches([batch])), schema)
            if not rows.num_rows:
                continue
            dates = pc.divide(rows.column("timestamp").cast(pa.int64()), DAY_MS)
            for day in pc.unique(dates).to_pylist():
                if day not in days:
                    file = folder / parquet_name(format_day(day * DAY_MS), part)
                    days[day] = stack.enter_context(_Day(file, schema))
                days[day].add(rows.filter(pc.equal(dates, day)))
    return [
        File(
            path=day.file.relative_to(folder).as_posix(),
            rows=day.rows,
            bytes=day.file.stat().st_size,
            sha256=hash_file(day.file),
        )
        for _, day in sorted(days.items())
    ]


class _Day(contextlib.ExitStack):
    """One file being written; it is there when the block ends well."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        super().__init__()
        self.file = file
        self.rows = 0
        self._held: list[pa.Table] = []
        self._held_rows = 0
        temporary = self.enter_context(replacing(file))
        self._writer: Any = self.enter_context(
            # Without the Arrow schema inside, labels are text to every reader and not Arrow's dictionaries.
            pq.ParquetWriter(
                str(temporary), schema, compression="zstd", compression_level=3, store_schema=False
            )
        )
        self.callback(self._flush)

    def add(self, rows: pa.Table) -> None:
        """Take rows in, in order of (uuid, timestamp)."""
        self._held.append(rows)
        self._held_rows += rows.num_rows
        self.rows += rows.num_rows
        if self._held_rows >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            rows = pa.concat_tables(self._held).unify_dictionaries().combine_chunks()
            self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        self._held, self._held_rows = [], 0


def _fit(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give rows all columns of a schema, null where they have none."""
    present = set(rows.column_names)
    return pa.table(
        [
            rows.column(field.name).cast(field.type)
            if field.name in present
            else pa.nulls(rows.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )
