"""An export: part by part from query into Parquet files, so that a break costs one part.

What a break leaves, wherever it comes: no file but manifest.json.tmp, or a manifest without gpus.json, and
the export begins anew; or both, and it goes on with the parts that the manifest does not call done. A folder
with a manifest is an export's, and every file there that is named like one of its own but is none is deleted.
In a folder without, nothing is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local_runtime.backup.answer import scan_answer
from local_runtime.backup.files import (
    GPUS,
    MANIFEST,
    TEMPORARY,
    UPLOADS,
    hash_file,
    list_ours,
    read_json,
    replacing,
    write_json,
)
from local_runtime.backup.manifest import File, Manifest, read_manifest
from local_runtime.backup.parquet import Keep, leave_out_later, order_columns, write_days
from local_runtime.backup.parts import Gpu, Part, plan_parts
from local_runtime.backup.patience import patiently
from shared import clock
from shared.client import Client
from shared.errors import Conflict, InvalidInput
from shared.ingest.report import format_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is."""

    parts: int
    parts_done: int
    rows: int
    bytes: int


Tell = Callable[[Progress], None]


def begin_export(query: Client, folder: Path, *, part_rows: int, overwrite: bool) -> Manifest:
    """Plan an export, or find the one that was begun in the folder; the folder is to be locked.

    Args:
        query: Asked for the plan.
        folder: Where it goes.
        part_rows: About so many rows make a part.
        overwrite: Begin anew where the folder holds an export.

    Raises:
        Conflict: The folder holds a finished export, or one of another pipeline.
        InvalidInput: The folder holds something else, which stays whatever `overwrite` says.
        PipelineError: Query does not answer; what is in the folder stays.
    """
    ours, others = list_ours(folder) if folder.is_dir() else ([], [])
    found = read_manifest(folder)
    if found is None:
        # Nothing is written before the manifest: by its name alone a file is not an export's.
        others += [file for file in ours if file.name != MANIFEST + TEMPORARY]
        if others:
            raise InvalidInput(f"{folder} holds {others[0].name} and no export: name an empty folder")
    if found is None or overwrite:
        return _begin_anew(query, folder, ours, part_rows)
    if found.finished_ms is not None:
        raise Conflict(f"{folder} holds a finished export: --overwrite makes it anew")
    if found.url != query.url:
        raise Conflict(
            f"{folder} holds an export begun from {found.url}: go on with that --url, or --overwrite it"
        )
    if not (folder / GPUS).is_file():
        return _begin_anew(query, folder, ours, part_rows)
    for part in [p for p, files in found.done.items() if not all(_is_whole(folder, f) for f in files)]:
        del found.done[part]
    _delete_all_but(folder, ours, {MANIFEST, GPUS, *(file.path for file in found.files())})
    return found


def _begin_anew(query: Client, folder: Path, ours: list[Path], part_rows: int) -> Manifest:
    answer = query.read("/api/v1/export/plan")["data"]
    gpus = sorted((Gpu(**gpu) for gpu in answer["gpus"]), key=lambda gpu: gpu.uuid)
    manifest = Manifest(
        url=query.url,
        created_ms=clock.now_ms(),
        until_ms=answer["until_ms"],
        queued=answer["queued"],
        parts=plan_parts(answer["days"], gpus, part_rows),
    )
    # gpus.json goes first and comes last: a break in between finds none, but a manifest.
    (folder / GPUS).unlink(missing_ok=True)
    manifest.save(folder)
    _delete_all_but(folder, ours, {MANIFEST})
    write_json(folder / GPUS, [asdict(gpu) for gpu in gpus])
    return manifest


def _delete_all_but(folder: Path, files: list[Path], kept: set[str]) -> None:
    for file in files:
        if file.relative_to(folder).as_posix() not in kept:
            file.unlink(missing_ok=True)


def _is_whole(folder: Path, file: File) -> bool:
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.bytes


def finish_export(query: Client, upload: Client, folder: Path, manifest: Manifest, tell: Tell) -> None:
    """Fetch the parts that are not done, then the records of the uploads.

    Raises:
        PipelineError: A function does not answer; what is done is done, and the next call goes on.
    """
    gpus = [Gpu(**gpu) for gpu in read_json(folder / GPUS) or ()]
    keep = leave_out_later(manifest.until_ms, gpus)
    fetched = sum(file.bytes for file in manifest.files())

    def told(received: int) -> None:
        done = len(manifest.done)
        tell(
            Progress(
                parts=len(manifest.parts), parts_done=done, rows=manifest.rows(), bytes=fetched + received
            )
        )

    for part in manifest.parts:
        told(0)
        if part.number in manifest.done:
            continue
        files, columns = _export_part(query, folder, part, keep, told)
        manifest.done[part.number] = files
        if files:
            manifest.columns = order_columns({*manifest.columns, *columns})
        manifest.save(folder)
        fetched += sum(file.bytes for file in files)
    manifest.uploads = _export_uploads(upload, folder, manifest.until_ms)
    manifest.finished_ms = clock.now_ms()
    manifest.save(folder)
    told(0)


def _export_part(
    query: Client, folder: Path, part: Part, keep: Keep, told: Callable[[int], None]
) -> tuple[list[File], frozenset[str]]:
    """Fetch one part into a file, and make Parquet of it only once it is whole."""
    spool = folder / f"part-{part.number:05d}.arrows{TEMPORARY}"

    def fetch() -> Any:
        received = 0
        with query.stream("/api/v1/export", **_question(part)) as pieces, spool.open("wb") as out:
            for piece in pieces:
                out.write(piece)
                received += len(piece)
                told(received)
        return scan_answer(spool)

    scan = patiently(fetch)
    files = write_days(spool, scan, folder, part.number, keep)
    spool.unlink()
    return files, scan.columns


def _question(part: Part) -> dict[str, str]:
    return {
        "start_time": format_ms(part.start_ms),
        "end_time": format_ms(part.end_ms),
        "first_uuid": part.first_uuid,
        "last_uuid": part.last_uuid,
    }


def _export_uploads(upload: Client, folder: Path, until_ms: int) -> File:
    """Write the records of the uploads received before, newest first; those undone since are left out."""

    def write() -> int:
        count = 0
        with temporary.open("w", encoding="utf-8") as out:
            for record in _iter_records(upload, until_ms):
                out.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
                count += 1
        return count

    file = folder / UPLOADS
    with replacing(file) as temporary:
        count = patiently(write)
    return File(path=UPLOADS, rows=count, bytes=file.stat().st_size, sha256=hash_file(file))


def _iter_records(upload: Client, until_ms: int) -> Iterator[dict[str, Any]]:
    for listed in upload.iter_uploads(full=True):
        record = listed["record"]
        if record["received_at"] < until_ms and listed.get("state") not in ("deleting", "deleted"):
            yield record
