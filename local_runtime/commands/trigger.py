"""`gpu-telemetry trigger SERVICE`."""

from __future__ import annotations

import json
import sys
import time
import uuid
from http import HTTPStatus
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
from shared.cloudevents import format_time
from shared.errors import InvalidInput, NotFound

#: What a PingSource sends; collect takes it for a tick.
_TYPE = "dev.knative.sources.ping"
_TICK = '{"kind": "tick"}'
#: Where the services are of a runtime that was started elsewhere, on the ports it has by default.
_DEFAULTS = {"collect": COLLECT_URL, "query": QUERY_URL, "upload": UPLOAD_URL}


def _complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    running = read_running(ctx.params.get("data_dir", DATA_DIR))
    return [name for name in (running.urls if running else _DEFAULTS) if name.startswith(incomplete)]


@click.command()
@click.argument("service", shell_complete=_complete)
@click.option("--type", "kind", default=_TYPE, show_default=True, help="The event's type.")
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
    body = read_data(data)
    client = connect(url or find_url(service, data_dir))
    headers = build_headers(kind=kind, source=source, id_=id_ or str(uuid.uuid4()), now_s=clock.now_s())
    began = time.monotonic()
    status, answer = client.exchange("/", body, headers)
    took_ms = (time.monotonic() - began) * 1000
    succeeded = status < 300  # noqa: PLR2004
    said = _parse_answer(answer)
    if as_json:
        event = {"id": headers["ce-id"], "type": kind, "source": source, "url": client.url}
        data_ = {**event, "status": status, "duration_ms": round(took_ms, 2), "body": said}
        print_json({"success": succeeded, "data": data_})
    else:
        click.echo(f"sent {kind} {headers['ce-id']} to {client.url}")
        colour = "green" if succeeded else "red"
        click.echo(f"{click.style(_name_status(status), fg=colour)} after {took_ms:,.0f} ms")
        if said is not None:
            click.echo(
                clean(said if isinstance(said, str) else json.dumps(said, indent=2, ensure_ascii=False))
            )
    return 0 if succeeded else EXIT_FAILED


def build_headers(*, kind: str, source: str, id_: str, now_s: float) -> dict[str, str]:
    """Build the headers that make a request a CloudEvent in binary mode.

    Raises:
        InvalidInput: One of them cannot stand in a header.
    """
    about = {"ce-type": kind, "ce-source": source, "ce-id": id_}
    headers = {"ce-specversion": "1.0", **about, "ce-time": format_time(now_s)}
    for name, value in headers.items():
        if not value or not value.isascii() or not value.isprintable():
            raise InvalidInput(f"--{name.removeprefix('ce-')}: printable ASCII is expected, not {value!r}")
    return {**headers, "Content-Type": "application/json"}


def read_data(given: str) -> bytes:
    """Read an event's data: JSON, `@` and a file of it, or `-` for standard input.

    Raises:
        InvalidInput: Not JSON, or not to be read.
    """
    where = "--data"
    if given == "-":
        where, text = "standard input", sys.stdin.read()
    elif given.startswith("@"):
        where = given[1:]
        try:
            text = Path(where).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "not a text"
            raise InvalidInput(f"{where} cannot be read: {reason}") from exc
    else:
        text = given
    try:
        json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"{where} is not JSON: {exc}") from exc
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
    known = f"there is no service {service!r}: there are {', '.join(sorted(urls))}"
    raise NotFound(known if running else f"{known}, and `gpu-telemetry up` does not run on {data_dir}")


def _parse_answer(answer: bytes) -> Any:
    """Return an answer's JSON, else its text; None where it is empty."""
    if not answer.strip():
        return None
    try:
        return json.loads(answer)
    except ValueError:
        return answer.decode(errors="replace").rstrip()


def _name_status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
