"""`gpu-telemetry uploads list | show ID | delete ID`."""

from __future__ import annotations

import itertools
from typing import Any

import click

from local_runtime.commands.output import (
    UPLOAD_URL,
    confirm,
    connect,
    json_option,
    print_json,
    print_table,
    url_option,
)
from local_runtime.commands.upload import print_report
from shared.client import Json

_HEADS = ("UPLOAD", "RECEIVED", "FILE", "ROWS", "BAD", "STATE")
_GOES = ("rows", "gpus", "segments", "messages", "first_timestamp", "last_timestamp")


@click.group()
def uploads() -> None:
    """List, show and undo uploads."""


@uploads.command("list")
@click.option(
    "--limit",
    default=50,
    show_default=True,
    type=click.IntRange(min=1, max=1_000_000),
    help="At most so many.",
)
@url_option(UPLOAD_URL, "the upload function")
@json_option
def list_(*, limit: int, url: str, as_json: bool) -> None:
    """List the uploads, the newest first."""
    found = list(itertools.islice(connect(url).iter_uploads(limit=limit), limit))
    if as_json:
        print_json({"success": True, "data": found, "count": len(found)})
        return
    if not found:
        click.echo("no uploads yet: gpu-telemetry upload FILE.csv makes one")
        return
    print_table(_HEADS, [_describe(upload) for upload in found])


def _describe(upload: Json) -> list[Any]:
    """Make a line of the table; it is to fit into a common terminal, and `show` says the rest."""
    state = upload.get("state") or ("imported" if upload.get("imported") else "")
    counts = [upload.get(name) for name in ("accepted", "rejected")]
    return [upload["upload_id"], upload["received_at"][:16] + "Z", upload.get("filename"), *counts, state]


@uploads.command()
@click.argument("upload_id", metavar="ID")
@url_option(UPLOAD_URL, "the upload function")
@json_option
def show(*, upload_id: str, url: str, as_json: bool) -> None:
    """Show what became of an upload, and whether it is stored."""
    answer = connect(url).read_upload(upload_id)
    if as_json:
        print_json(answer)
    else:
        print_report(answer["data"])


@uploads.command()
@click.argument("upload_id", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@url_option(UPLOAD_URL, "the upload function")
@json_option
def delete(*, upload_id: str, dry_run: bool, yes: bool, url: str, as_json: bool) -> None:
    """Undo an upload: all its rows go. Values that it had overwritten do not come back."""
    client = connect(url)
    answer = client.delete_upload(upload_id, dry_run=True)
    if not dry_run:
        if not as_json:
            _print_goes(answer["data"], "would go")
        confirm(f"Delete upload {upload_id}?", yes=yes)
        answer = client.delete_upload(upload_id, dry_run=False)
    if as_json:
        print_json(answer)
    elif dry_run:
        _print_goes(answer["data"], "would go")
    else:
        _print_state(answer["data"])


def _print_goes(data: Json, title: str) -> None:
    print_table(
        [title.upper(), ""], [[name, str(data[name])] for name in _GOES if data.get(name) is not None]
    )
    for warning in data.get("warnings") or ():
        click.secho(f"warning: {warning}", fg="yellow", err=True)


def _print_state(data: Json) -> None:
    upload_id = data.get("upload_id")
    if data.get("state") == "deleting":
        click.echo(
            f"upload {upload_id} is being deleted: it goes on with the next ticks; "
            f"`gpu-telemetry uploads show {upload_id}` tells when it is done"
        )
    else:
        click.echo(f"upload {upload_id} is {data.get('state')}: {data.get('rows')} rows")
