"""Parquet files to import: which there are, and their rows as Arrow streams for upload."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from local_runtime.backup.files import hash_file
from local_runtime.backup.manifest import Manifest
from shared.errors import InvalidInput
from shared.records import KEY, VERSION

#: Rows of one batch, fewer where there are many columns: upload takes batches of at most 32 MiB.
_BATCH_ROWS = 64 * 1024
_BATCH_BYTES = 16 * 1024 * 1024
#: Files in one request, however small.
_REQUEST_FILES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Parquet file to import."""

    path: Path
    #: Below the folder, with slashes.
    name: str
    bytes: int
    #: As the manifest has it; empty where there is none.
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some of a file's row groups, one after the other."""

    source: Source
    groups: tuple[int, ...]
    rows: int


def find_sources(folder: Path, manifest: Manifest | None) -> list[Source]:
    """List the files: those of the manifest, or without one every Parquet file below the folder.

    Raises:
        InvalidInput: There is none, or one of the manifest's is missing or of another size.
    """
    if manifest is None:
        files = sorted(folder.rglob("*.parquet"))
        found = [
            Source(path=f, name=f.relative_to(folder).as_posix(), bytes=f.stat().st_size, sha256="")
            for f in files
        ]
    else:
        found = [
            Source(path=folder / f.path, name=f.path, bytes=f.bytes, sha256=f.sha256)
            for f in manifest.files()
        ]
    for source in found:
        if not source.path.is_file() or source.path.stat().st_size != source.bytes:
            raise InvalidInput(f"{source.path} is missing or not as long as the manifest says: export again")
    if not found and (manifest is None or manifest.finished_ms is None):
        raise InvalidInput(f"{folder} holds no Parquet file")
    return found


def check_source(source: Source) -> list[int]:
    """Check that a Parquet file is whole and has what an import needs; returns the rows of its row groups.

    Raises:
        InvalidInput: It is none, is damaged, or lacks a column: names it.
    """
    if source.sha256 and hash_file(source.path) != source.sha256:
        raise InvalidInput(f"{source.path} is damaged: its SHA-256 is not that of the manifest")
    file = _open(source)
    missing = [name for name in (*KEY, *VERSION) if name not in file.schema_arrow.names]
    if missing:
        raise InvalidInput(
            f"{source.path} has no column {', '.join(missing)}: an import takes rows with their versions, "
            "as `gpu-telemetry export` writes them; rows without go through `gpu-telemetry upload`, as CSV"
        )
    return [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]


def _open(source: Source) -> Any:
    try:
        return pq.ParquetFile(str(source.path))
    except (pa.ArrowException, OSError) as exc:
        raise InvalidInput(f"{source.path} is not a Parquet file: {' '.join(str(exc).split())}") from exc


def plan_pieces(source: Source, group_rows: Sequence[int], start: int, wanted_rows: int) -> list[Piece]:
    """Put row groups of a file together, from one on, into pieces of about so many rows."""
    pieces: list[Piece] = []
    groups: list[int] = []
    rows = 0
    for group in range(start, len(group_rows)):
        if groups and rows + group_rows[group] > wanted_rows:
            pieces.append(Piece(source=source, groups=tuple(groups), rows=rows))
            groups, rows = [], 0
        groups.append(group)
        rows += group_rows[group]
    if rows:
        pieces.append(Piece(source=source, groups=tuple(groups), rows=rows))
    return pieces


def iter_requests(pieces: Iterable[Piece], wanted_rows: int) -> Iterator[list[Piece]]:
    """Put pieces of several files together into requests of about so many rows."""
    request: list[Piece] = []
    for piece in pieces:
        rows = sum(p.rows for p in request)
        if request and (rows + piece.rows > wanted_rows or len(request) >= _REQUEST_FILES):
            yield request
            request = []
        request.append(piece)
    if request:
        yield request


def iter_stream(piece: Piece) -> Iterator[bytes]:
    """Write row groups as one Arrow IPC stream, batch by batch: uncompressed, text as dictionaries.

    Raises:
        InvalidInput: The file cannot be read.
    """
    file = _open(piece.source)
    metadata = {"file": piece.source.name}
    schema = pa.schema([_as_sent(field) for field in file.schema_arrow], metadata=metadata)
    rows = max(min(_BATCH_ROWS, _BATCH_BYTES // (8 * len(schema))), 1)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        try:
            for batch in file.iter_batches(batch_size=rows, row_groups=list(piece.groups)):
                columns = [
                    column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
                    for column, field in zip(batch.columns, schema, strict=True)
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                yield _take(sink)
        except (pa.ArrowException, OSError) as exc:
            reason = " ".join(str(exc).split())
            raise InvalidInput(f"{piece.source.path} cannot be read: {reason}") from exc
    yield _take(sink)


def _as_sent(field: pa.Field) -> pa.Field:
    if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
        return pa.field(field.name, pa.dictionary(pa.int32(), field.type))
    return pa.field(field.name, field.type)


def _take(sink: io.BytesIO) -> bytes:
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data
