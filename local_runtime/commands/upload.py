"""`gpu-telemetry upload FILE...`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from local_runtime.cli import EXIT_FAILED
from local_runtime.commands.output import (
    UPLOAD_URL,
    connect,
    json_option,
    print_json,
    print_table,
    url_option,
)
from shared.client import UNDONE, Client, Json
from shared.errors import Conflict, PipelineError, Transient

#: Between two looks at whether an upload is stored.
_POLL_S = (0.02, 0.25)
#: Given up when the number of queued messages has not changed for so long.
_STUCK_S = 120.0

_REPORT = (
    "upload_id", "filename", "dialect", "bytes", "rows", "accepted", "rejected", "values_nulled", "gpus",
    "hosts", "first_timestamp", "last_timestamp", "messages", "duration_ms", "imported", "state",
)  # fmt: skip


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--wait", is_flag=True, help="Until the rows can be queried.")
@url_option(UPLOAD_URL, "the upload function")
@json_option
def upload(files: tuple[Path, ...], url: str, *, wait: bool, as_json: bool) -> int:
    """Upload CSV FILES and print what became of their rows.

    Exit status 1 when a file was not taken; the others are uploaded all the same.
    """
    client = connect(url)
    failed = False
    for file in files:
        try:
            answer = upload_one(client, file, wait=wait)
        except PipelineError as exc:
            failed = True
            _complain(file, exc, as_json=as_json)
            continue
        if as_json:
            print_json(answer)
        else:
            print_report(answer["data"])
    return EXIT_FAILED if failed else 0


def upload_one(client: Client, file: Path, *, wait: bool) -> Json:
    """Upload a file and, if wanted, wait until it is stored; returns the envelope with its report.

    Raises:
        PipelineError: Nothing of it was taken, or nobody answers.
    """
    with _progress(file) as advance:
        answer = client.upload(file, advance)
    if wait:
        answer["data"]["state"] = wait_until_stored(client, str(answer["data"]["upload_id"]))
    return answer


def wait_until_stored(client: Client, upload_id: str) -> str:
    """Wait until every row of an upload can be queried.

    Raises:
        Transient: Nothing moves.
        Conflict: It was undone meanwhile.
        PipelineError: Some of it was set aside as dead letters.
    """
    pause_s, longest_s = _POLL_S
    queued, since_s = -1, time.monotonic()
    while True:
        data = client.read_upload(upload_id)["data"]
        if data["state"] == "dead":
            raise PipelineError(
                f"{data['messages_dead']} messages of upload {upload_id} became dead letters: "
                "collect's log says why"
            )
        if data["state"] in UNDONE:
            raise Conflict(f"upload {upload_id} was undone meanwhile: it is {data['state']}")
        if data["state"] == "stored":
            return "stored"
        if data.get("messages_queued") != queued:
            queued, since_s = data.get("messages_queued"), time.monotonic()
        elif time.monotonic() - since_s > _STUCK_S:
            raise Transient(f"upload {upload_id} is safe in the queue, but {queued} messages do not move")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, longest_s)


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; gives what is to be told the bytes sent."""
    if not sys.stderr.isatty():
        yield lambda _bytes: None
        return
    # rich costs 60 ms: only for those who see it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    total = file.stat().st_size if file.is_file() else None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(file.name, total=total)
        yield lambda count: bar.update(task, advance=count)


def _complain(file: Path, exc: PipelineError, *, as_json: bool) -> None:
    if as_json:
        error = {"code": exc.code, "message": exc.message, "details": exc.details}
        print_json({"success": False, "error": error, "file": str(file)})
    click.echo(f"{click.style('error:', fg='red')} {file}: {exc.message}", err=True)
    if not as_json:
        _print_errors(exc.details)


def print_report(report: Json) -> None:
    """Print what became of an upload, and its bad cells."""
    print_table(
        ["UPLOAD", ""], [[name, str(report[name])] for name in _REPORT if report.get(name) is not None]
    )
    for warning in report.get("warnings") or ():
        click.secho(f"warning: {warning}", fg="yellow")
    _print_errors(report)


def _print_errors(report: Json) -> None:
    errors = report.get("errors")
    if not isinstance(errors, list) or not errors:
        return
    total = report.get("errors_total", len(errors))
    title = f"{total} errors" + (f", the first {len(errors)}" if total != len(errors) else "")
    rows = [
        [e.get("line"), e.get("column"), shorten(str(e.get("value") or "")), e.get("reason")] for e in errors
    ]
    print_table(["LINE", "COLUMN", "VALUE", "REASON"], rows, title=title)


def shorten(text: str, limit: int = 40) -> str:
    """Cut a text that is too long for a table."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
