"""Records as Parquet, a row group at a time, so that no more than one is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shared.records import LABELS, TIMESTAMP, chunk, concat

#: Rows of a row group, at least, but for the last.
GROUP_ROWS = 64 * 1024


class _Sink:
    """A file that gives away what was written to it."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        return len(piece)

    def flush(self) -> None:
        """Do nothing: whoever asks takes what there is."""

    def close(self) -> None:
        """Do nothing: what is left is still to be taken."""

    def take(self) -> bytes:
        """Take what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def schema_of(names: Sequence[str]) -> pa.Schema:
    """Build the schema of a file: the time, labels as strings, metrics as doubles."""
    text = {"uuid", *LABELS}
    columns = [(name, pa.string() if name in text else pa.float64()) for name in names]
    return pa.schema([("timestamp", TIMESTAMP), *columns])


def write(parts: Iterable[pa.Table], names: Sequence[str]) -> Iterator[bytes]:
    """Write a file; what is left of a failure in the middle has no end, and no reader takes it."""
    schema = schema_of(names)
    sink = _Sink()
    writer = pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"), schema, compression="zstd", compression_level=1, store_schema=False
    )
    held: list[pa.Table] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += part.num_rows
        if rows >= GROUP_ROWS:
            writer.write_table(_conform(held, schema), row_group_size=rows)
            held, rows = [], 0
            yield sink.take()
    if rows:
        writer.write_table(_conform(held, schema), row_group_size=rows)
    writer.close()
    yield sink.take()


def _conform(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Put chunks below each other, in the columns of a schema."""
    table = concat(tables)
    columns = [
        chunk(table, field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
