"""`gpu-telemetry tail`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator

import click

from local_runtime.commands.output import QUERY_URL, connect, format_cell, json_option, url_option
from local_runtime.commands.telemetry import FIRST, SAME
from shared.client import Client, Json
from shared.errors import InvalidInput, PipelineError, Transient

#: Seconds before it is tried again to connect: doubled up to the second.
_BACKOFF_S = (0.5, 8.0)


@click.command()
@click.option("--gpu", "gpus", multiple=True, metavar="UUID", help="Only this one; may be repeated.")
@click.option("--host", "hosts", multiple=True, help="Only this host; * stands for anything.")
@click.option("--model", "models", multiple=True, help="Only this model; * stands for anything.")
@click.option("--field", "fields", multiple=True, help="Only this field, such as power_draw.")
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
    """Print records as they are stored, until Ctrl-C; after a break it goes on where it was."""
    wanted: Json = {"type": "subscribe", "gpus": gpus, "hosts": hosts, "models": models, "fields": fields}
    client = connect(url)
    pause_s, most_s = _BACKOFF_S
    while True:
        try:
            for message in iter_messages(client, wanted):
                wanted["cursor"] = message.get("cursor") or wanted.get("cursor")
                show(message, as_json=as_json)
                pause_s = _BACKOFF_S[0]
            time.sleep(pause_s)
        except Transient as exc:
            if "cursor" not in wanted:
                raise
            click.echo(f"{exc.message}: trying again", err=True)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, most_s)


def iter_messages(client: Client, wanted: Json) -> Iterator[Json]:
    """Subscribe and yield what the server says, until it closes the socket.

    Raises:
        PipelineError: It does not take the subscription.
        Transient: There is no connection, or it broke.
    """
    import simple_websocket  # noqa: PLC0415  (45 ms, and only here)

    address = "ws" + client.url.removeprefix("http") + "/ws"
    try:
        socket = simple_websocket.Client(address, headers=client.headers)
        try:
            socket.send(json.dumps(wanted))
            while True:
                message = json.loads(socket.receive())
                if message["type"] == "error":
                    raise PipelineError(message["message"])
                yield message
                if message["type"] == "closing":
                    return
        finally:
            socket.close()
    except (OSError, simple_websocket.ConnectionError, simple_websocket.ConnectionClosed) as exc:
        # Why, plain HTTP says in words: no token, no such door, nobody there.
        with contextlib.suppress(InvalidInput):
            client.read("/ws")
        raise Transient(f"the connection to {client.url} broke ({exc})") from exc


def show(message: Json, *, as_json: bool) -> None:
    """Print a message: a line for each record, on standard error what else is to be known."""
    if message["type"] == "missed":
        counted = message.get("count")
        said = "some records" if counted is None else f"{counted} records"
        click.echo(f"missed {said}: {message['reason']}", err=True)
    for record in message.get("data", ()):
        if as_json:
            click.echo(json.dumps(record, separators=(",", ":")))
        else:
            click.echo(describe(record))
    sys.stdout.flush()


def describe(record: Json) -> str:
    """Write a record as a line: when and which GPU, then each field with its name."""
    where = "  ".join(str(record.get(name) or "-") for name in FIRST)
    values = (
        f"{name}={format_cell(value)}"
        for name, value in record.items()
        if name not in FIRST and name not in SAME and value is not None
    )
    return f"{where}  {' '.join(values)}"
