"""`gpu-telemetry export DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_runtime.backup.lock import holding
from local_runtime.commands.bars import format_bytes, progress_bar
from local_runtime.commands.output import QUERY_URL, UPLOAD_URL, connect, json_option, print_json, url_option
from shared.client import Client
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from local_runtime.backup.manifest import Manifest


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--overwrite", is_flag=True, help="Begin anew, whatever export DIR holds.")
@click.option(
    "--part-rows",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="About so many rows at a time: a break costs that much.",
)
@url_option(QUERY_URL, "the query function")
@click.option("--upload-url", default=UPLOAD_URL, show_default=True, help="The address of upload.")
@json_option
def export(
    *, folder: Path, overwrite: bool, part_rows: int, url: str, upload_url: str, as_json: bool
) -> None:
    """Write everything stored into DIR: Parquet files by day, and the records of the uploads.

    After a break, run it again: it goes on where it was. DuckDB, Spark and pandas read the files as they are;
    `gpu-telemetry import DIR` brings them back in.
    """
    try:
        query, upload = connect(url), connect(upload_url)
        folder.mkdir(parents=True, exist_ok=True)
        with holding(folder / ".export.lock", f"another export writes to {folder}"):
            manifest = _export(query, upload, folder, part_rows, overwrite=overwrite)
    except OSError as exc:
        raise InvalidInput(f"{exc.filename or folder}: {exc.strerror}: nothing done so far is lost") from exc
    size = sum(file.bytes for file in manifest.files())
    data = {
        "folder": str(folder),
        "rows": manifest.rows(),
        "files": len(manifest.files()),
        "bytes": size,
        "parts": len(manifest.parts),
        "uploads": manifest.uploads.rows if manifest.uploads else 0,
        "queued": manifest.queued,
        "columns": manifest.columns,
    }
    if as_json:
        print_json({"success": True, "data": data})
        return
    click.echo(
        f"exported {manifest.rows():,} rows in {data['files']} files ({format_bytes(size)}), "
        f"and {data['uploads']} records of uploads, to {folder}"
    )


def _export(query: Client, upload: Client, folder: Path, part_rows: int, *, overwrite: bool) -> Manifest:
    # pyarrow takes a tenth of a second: not for --help.
    from local_runtime.backup.exporting import Progress, begin_export, finish_export  # noqa: PLC0415

    manifest = begin_export(query, folder, part_rows=part_rows, overwrite=overwrite)
    if manifest.queued:
        click.secho(
            f"warning: {manifest.queued} messages waited in the queue when the export began: "
            "their rows may not be in it",
            fg="yellow",
            err=True,
        )
    with progress_bar("exporting") as show:

        def tell(p: Progress) -> None:
            show(p.parts_done, p.parts, f"{p.rows:,} rows, {format_bytes(p.bytes)}")

        finish_export(query, upload, folder, manifest, tell)
    return manifest
