"""`gpu-telemetry tail`."""

from __future__ import annotations

import json

import click

from local_runtime.commands.output import QUERY_URL, connect, format_cell, json_option, url_option
from local_runtime.listening import iter_messages
from shared.client import Json

_FIRST = ("timestamp", "hostname", "gpu_id", "uuid")


@click.command()
@click.option("--gpu", "gpus", multiple=True, metavar="UUID", help="Only this one, or with * several.")
@click.option("--host", "hosts", multiple=True, help="Only GPUs of this host, or with * of several.")
@click.option("--model", "models", multiple=True, help="Only GPUs of this model, or with * of several.")
@click.option("--field", "fields", multiple=True, help="Only this field, by any of its names.")
@url_option(QUERY_URL, "the query function")
@json_option
def tail(
    *,
    gpus: tuple[str, ...],
    hosts: tuple[str, ...],
    models: tuple[str, ...],
    fields: tuple[str, ...],
    url: str,
    as_json: bool,
) -> None:
    """Print records as they are stored, until Ctrl-C. Each option can be given several times."""
    wanted = {"gpus": gpus, "hosts": hosts, "models": models, "fields": fields}
    for message in iter_messages(connect(url), wanted):
        if message["type"] == "subscribed":
            click.echo("listening: Ctrl-C ends it", err=True)
        elif message["type"] == "missed":
            count = "some" if message["count"] is None else message["count"]
            click.secho(f"{count} records were missed: {message['reason']}", fg="yellow", err=True)
        for record in message.get("data", ()):
            click.echo(json.dumps(record) if as_json else format_record(record))


def format_record(record: Json) -> str:
    """Write a record as one line: when, which GPU, and what it reported."""
    which = " ".join(format_cell(record.get(name)) for name in _FIRST)
    rest = (f"{n}={format_cell(v)}" for n, v in record.items() if n not in _FIRST and v is not None)
    return f"{which}  {' '.join(rest)}"
