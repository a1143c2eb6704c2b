"""An answer of query's export, kept in a file: Arrow streams one after the other, whole or refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from shared.errors import Transient


@dataclass(frozen=True, slots=True)
class Scan:
    """What a whole answer holds."""

    rows: int
    #: Every column that one of its streams has.
    columns: frozenset[str]


def scan_answer(file: Path) -> Scan:
    """Read an answer through.

    Raises:
        Transient: It is not complete: the last stream is to say how many rows there were.
    """
    columns: set[str] = set()
    rows = 0
    said = None
    for batch in _iter_streams(file):
        if isinstance(batch, pa.Schema):
            metadata = batch.metadata or {}
            said = int(metadata[b"rows"]) if b"end" in metadata else None
            columns.update(batch.names)
        else:
            rows += batch.num_rows
    if said != rows:
        raise Transient("the answer of export broke off before it was complete")
    return Scan(rows, frozenset(columns))


def iter_batches(file: Path) -> Iterator[pa.RecordBatch]:
    """Read the rows of an answer that was scanned, a batch at a time."""
    return (batch for batch in _iter_streams(file) if isinstance(batch, pa.RecordBatch))


def _iter_streams(file: Path) -> Iterator[pa.Schema | pa.RecordBatch]:
    """Yield the schema of each stream and then its batches."""
    size = file.stat().st_size
    try:
        with pa.OSFile(str(file)) as source:
            while source.tell() < size:
                with pa.ipc.open_stream(source) as stream:
                    yield stream.schema
                    yield from stream
    except (pa.ArrowException, OSError) as exc:
        raise Transient(f"the answer of export cannot be read: {exc}") from exc
