"""`gpu-telemetry telemetry GPU`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any, get_args

import click

from local_runtime.commands.output import (
    QUERY_URL,
    connect,
    format_cell,
    format_line,
    json_option,
    url_option,
)
from shared.api.records import Aggregate
from shared.api.telemetry import FormatName
from shared.client import Client, Json, iter_records, quote_id

#: What a record's columns and their width are judged by.
_LOOK_AHEAD = 1000
FIRST = ("timestamp", "hostname", "gpu_id")
#: Said once, above the table.
SAME = ("uuid", "name", "modelname", "device", "cluster")


@click.command()
@click.argument("gpu")
@click.option("--hostname", help="Needed when GPU is a number such as 0.")
@click.option("--start", metavar="TIME", help="The first time, such as 2024-01-15T10:30:00Z or now-15m.")
@click.option("--end", metavar="TIME", help="The end, exclusive.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many records.")
@click.option("--fields", metavar="NAMES", help="Only these, such as power_draw,pod; by DCGM's names too.")
@click.option("--order", type=click.Choice(["asc", "desc"]), help="By time; desc: the newest first.")
@click.option("--step", metavar="TIME", help="One record for so much time, such as 60s.")
@click.option("--agg", type=click.Choice(get_args(Aggregate)), help="What a step makes of values; avg.")
@click.option("--format", "form", type=click.Choice(get_args(FormatName)), help="Print what is answered so.")
@url_option(QUERY_URL, "the query function")
@json_option
def telemetry(
    *, gpu: str, url: str, as_json: bool, form: str | None, start: str | None, end: str | None, **asked: Any
) -> None:
    """Print the records of GPU (a uuid, or its number with --hostname), ordered by time, as they arrive."""
    path = f"/api/v1/gpus/{quote_id(gpu)}/telemetry"
    asked |= {"start_time": start, "end_time": end}
    if form is None and not as_json:
        _print_records(_iter_pages(connect(url), path, asked))
        return
    if form == "parquet" and sys.stdout.isatty():
        raise click.UsageError(
            "Parquet is nothing for a terminal: send it into a file, with > records.parquet"
        )
    with connect(url).stream(path, format=form, **asked) as parts:
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


def _iter_pages(client: Client, path: str, asked: dict[str, Any]) -> Iterator[Json]:
    """Read records, and go on where an answer has as many as one may have."""
    cursor, left = None, asked["limit"]
    while True:
        with client.stream(path, **{**asked, "limit": left, "cursor": cursor}) as parts:
            rest = yield from iter_records(parts)
        cursor = rest.get("next")
        left = None if left is None else left - rest["count"]
        if cursor is None or left == 0:
            return


def find_columns(records: list[Json]) -> list[str]:
    """Return the columns worth printing: those with a value in some record, the known ones first."""
    found = {name: None for record in records for name, value in record.items() if value is not None}
    found = {name: None for name in found if not isinstance(records[0].get(name), dict | list)}
    first = [name for name in FIRST if name in found]
    return first + [name for name in found if name not in FIRST and name not in SAME]


def _print_records(records: Iterator[Json]) -> None:
    head = list(itertools.islice(records, _LOOK_AHEAD))
    if not head:
        click.echo("no records in that time")
        return
    columns = find_columns(head)
    widths = [max(len(name), *(len(format_cell(r.get(name))) for r in head)) for name in columns]
    right = [any(isinstance(r.get(name), int | float) for r in head) for name in columns]
    click.echo(_describe(head[0]))
    click.secho(format_line(columns, widths, right), bold=True)
    count = 0
    for record in itertools.chain(head, records):
        cells: list[Any] = [format_cell(record.get(name)) for name in columns]
        click.echo(format_line(cells, widths, right))
        count += 1
    click.echo(f"{count} records")


def _describe(record: Json) -> str:
    said = [str(record[name]) for name in SAME if record.get(name)]
    return ", ".join(said)
