"""`gpu-telemetry import DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_runtime.commands.bars import progress_bar
from local_runtime.commands.output import UPLOAD_URL, connect, json_option, print_json, url_option
from local_runtime.commands.upload import wait_until_stored
from shared.client import Client
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from local_runtime.backup.importing import Journal, Outcome


@click.command("import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--part-rows",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="About so many rows at a time: a break costs that much.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait until the rows can be queried.")
@url_option(UPLOAD_URL, "the upload function")
@json_option
def import_(*, folder: Path, part_rows: int, no_wait: bool, url: str, as_json: bool) -> None:
    """Bring the Parquet files in DIR back in: an export, or any with the columns of one.

    Each row keeps its version, so importing twice changes nothing, and what was uploaded later stays. After a
    break, run it again: it goes on where it was.
    """
    client = connect(url)
    client.read("/health")
    # pyarrow takes a tenth of a second: not for --help.
    from local_runtime.backup.importing import opening_journal  # noqa: PLC0415

    with opening_journal(folder, client.url) as journal:
        try:
            out = _send(client, folder, journal, part_rows)
        except OSError as exc:
            raise InvalidInput(f"{exc.filename or folder}: {exc.strerror}") from exc
        for sentence in out.warnings:
            _warn(sentence)
        if journal.unwritable:
            _warn(f"{journal.file}: {journal.unwritable}: after a break everything is sent again, harmlessly")
        if not no_wait:
            with progress_bar("storing") as show:
                for done, upload in enumerate(journal.uploads):
                    show(done, len(journal.uploads), "")
                    wait_until_stored(client, upload)
        journal.file.unlink(missing_ok=True)
    _print(out, journal.uploads, "queued" if no_wait else "stored", as_json=as_json)


def _send(client: Client, folder: Path, journal: Journal, part_rows: int) -> Outcome:
    from local_runtime.backup.importing import import_records, import_rows, is_known  # noqa: PLC0415
    from local_runtime.backup.manifest import read_manifest  # noqa: PLC0415

    manifest = read_manifest(folder)
    if manifest is not None and manifest.finished_ms is None:
        _warn(
            f"the export in {folder} is not finished: "
            f"{len(manifest.done)} of its {len(manifest.parts)} parts are there"
        )
    if not is_known(client, journal):
        _warn("the pipeline does not have all of the import that was begun: it begins anew")
        journal.forget()
    with progress_bar("importing") as show:

        def tell(done: int, files: int, rows: int) -> None:
            show(done, files, f"{rows:,} rows")

        out = import_rows(client, folder, manifest, journal, request_rows=part_rows, tell=tell)
        import_records(client, folder, journal, out)
    return out


def _print(out: Outcome, uploads: list[str], state: str, *, as_json: bool) -> None:
    if not as_json:
        click.echo(
            f"imported {out.rows:,} rows of {out.files} files ({state}), "
            f"and {out.records_put} records of uploads ({out.records_present} were there)"
        )
        return
    data = {
        "rows": out.rows,
        "files": out.files,
        "values_nulled": out.nulled,
        "uploads": uploads,
        "records_put": out.records_put,
        "records_present": out.records_present,
        "state": state,
    }
    print_json({"success": True, "data": data})


def _warn(sentence: str) -> None:
    click.secho(f"warning: {sentence}", fg="yellow", err=True)
