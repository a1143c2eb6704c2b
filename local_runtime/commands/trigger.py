"""`gpu-telemetry trigger SERVICE`."""

from __future__ import annotations

import http.client
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import click

from local_runtime.cli import EXIT_FAILED
from local_runtime.commands.output import (
    COLLECT_URL,
    DATA_DIR,
    QUERY_URL,
    UPLOAD_URL,
    connect,
    data_dir_option,
    json_option,
    print_json,
    url_option,
)
from local_runtime.log_records import clean
from local_runtime.running import read_running
from shared import clock
from shared.cloudevents import PING_TYPE, build_event_headers
from shared.errors import InvalidInput, NotFound

#: What our PingSource sends; collect takes it for a tick.
_TICK = '{"kind": "tick"}'
#: Where the services are of a runtime that was started elsewhere, on the ports it has by default.
_DEFAULTS = {"collect": COLLECT_URL, "query": QUERY_URL, "upload": UPLOAD_URL}


def _complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    running = read_running(ctx.params.get("data_dir", DATA_DIR))
    return [name for name in (running.urls if running else _DEFAULTS) if name.startswith(incomplete)]


@click.command()
@click.argument("service", shell_complete=_complete)
@click.option("--type", "kind", default=PING_TYPE, show_default=True, help="The event's type.")
@click.option(
    "--data",
    default=_TICK,
    show_default=True,
    metavar="JSON|@FILE|-",
    help="The event's data: JSON, a file of it, or - for standard input.",
)
@click.option("--source", default="/gpu-telemetry/trigger", show_default=True, help="The event's source.")
@click.option("--id", "id_", help="The event's id; one of its own unless told otherwise.")
@url_option(None, "SERVICE, where no runtime on the data directory says it")
@data_dir_option
@json_option
def trigger(
    *,
    service: str,
    kind: str,
    data: str,
    source: str,
    id_: str | None,
    url: str | None,
    data_dir: Path,
    as_json: bool,
) -> int:
    """Send SERVICE a CloudEvent, as cron does with every tick, and print what it answers.

    \b
    gpu-telemetry trigger collect
    gpu-telemetry trigger collect --type my.event --data '{"kind": "mine"}'

    Exit status 1 when the answer is an error.
    """  # noqa: D301  (click's own mark for a paragraph that stays as it is)
    body, id_ = read_data(data), str(uuid.uuid4()) if id_ is None else id_
    for name, value in {"type": kind, "source": source, "id": id_}.items():
        if not value or not value.isascii() or not value.isprintable():
            raise InvalidInput(f"--{name}: printable ASCII is expected, not {value!r}")
    client = connect(url or find_url(service, data_dir))
    headers = {"Content-Type": "application/json", **build_event_headers(kind, source, id_, clock.now_s())}
    began = time.monotonic()
    status, answer = client.exchange("/", body, headers)
    took_ms = (time.monotonic() - began) * 1000
    text = answer.decode(errors="replace").strip()
    succeeded = status < 300  # noqa: PLR2004
    if as_json:
        event = {"id": id_, "type": kind, "source": source, "url": client.url}
        told = {**event, "status": status, "duration_ms": round(took_ms, 2), "body": _parse(text)}
        print_json({"success": succeeded, "data": told})
    else:
        phrase = http.client.responses.get(status, "")
        click.echo(f"sent {kind} {id_} to {client.url}")
        click.secho(f"{status} {phrase} after {took_ms:,.0f} ms", fg="green" if succeeded else "red")
        if text:
            click.echo(clean(text))
    return 0 if succeeded else EXIT_FAILED


def read_data(given: str) -> bytes:
    """Read an event's data: JSON, `@` and a file of it, or `-` for standard input.

    Raises:
        InvalidInput: Not JSON, or not to be read.
    """
    try:
        text = Path(given[1:]).read_text("utf-8") if given.startswith("@") else given
        text = sys.stdin.read() if given == "-" else text
        json.loads(text)
    except OSError as exc:
        raise InvalidInput(f"{given[1:]} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"--data is not JSON: {exc}") from exc
    return text.encode()


def find_url(service: str, data_dir: Path) -> str:
    """Find the address of a service: where the runtime on a data directory has it, or where it would be.

    Raises:
        NotFound: There is no such service.
    """
    running = read_running(data_dir)
    urls = running.urls if running else _DEFAULTS
    if service in urls:
        return urls[service]
    hint = "" if running else f", and `gpu-telemetry up` does not run on {data_dir}"
    raise NotFound(f"there is no service {service!r}: there are {', '.join(sorted(urls))}{hint}")


def _parse(text: str) -> Any:
    """Return an answer's JSON, else its text; None where it is empty."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
