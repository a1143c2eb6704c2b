"""`gpu-telemetry retention`."""

from __future__ import annotations

import click

from local_runtime.cli import EXIT_FAILED
from local_runtime.commands.bars import format_bytes
from local_runtime.commands.output import (
    COLLECT_URL,
    confirm,
    connect,
    json_option,
    print_json,
    print_table,
    url_option,
)
from shared.client import Json


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what is kept and what is past retention.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@url_option(COLLECT_URL, "the collect function")
@json_option
def retention(*, dry_run: bool, yes: bool, url: str, as_json: bool) -> int:
    """Show what retention keeps, by day of upload, and delete what is past it.

    The cron tick does that by itself; this does it now. Exit status 1 when collect would not, and says why.
    """
    client = connect(url)
    answer = client.read_retention()
    expired = [day for day in answer["data"]["days"] if day["expired"]]
    if not as_json:
        _print(answer["data"])
    if expired and not dry_run:
        confirm(f"Delete {_count(expired)}?", yes=yes)
        answer = client.sweep()
        if not as_json:
            went = [day for day in answer["data"]["days"] if day["expired"]]
            click.echo(f"deleted {_count(went)}")
    elif not as_json:
        click.echo(f"{_count(expired)} would go" if expired else "nothing is past retention")
    if as_json:
        print_json(answer)
    refused = answer["data"].get("note")
    if refused:
        click.secho(f"warning: {refused}", fg="yellow", err=True)
    return EXIT_FAILED if refused else 0


def _print(data: Json) -> None:
    rows = [
        [
            day["day"],
            day["segments"],
            day["rows"],
            format_bytes(day["bytes"]),
            day.get("uploads"),
            "expired" if day["expired"] else "",
        ]
        for day in data["days"]
    ]
    title = f"retention {data['retention']}" + (
        f": uploads from {data['cutoff_day']} on are kept" if data.get("cutoff_day") else ""
    )
    if rows:
        print_table(["DAY", "SEGMENTS", "ROWS", "SIZE", "UPLOADS", ""], rows, title=title)
    else:
        click.echo(f"{title}; nothing is stored")


def _count(days: list[Json]) -> str:
    rows = sum(day["rows"] for day in days)
    names = ", ".join(str(day["day"]) for day in days[:3]) + (" and more" if len(days) > 3 else "")  # noqa: PLR2004
    return f"{rows:,} rows of {len(days)} days ({names})" if days else "nothing"
