"""What the subcommands share: options, JSON, and tables (coloured on a terminal, plain elsewhere)."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from shared.client import Client
from shared.config import parse_duration_s
from shared.errors import BadConfig

UPLOAD_URL = "http://127.0.0.1:8081"
QUERY_URL = "http://127.0.0.1:8080"
COLLECT_URL = "http://127.0.0.1:8082"

#: Where `up` keeps everything unless told otherwise.
DATA_DIR = Path(".local")

#: The colour of a status, on a terminal.
_COLOURS = {
    "active": "green",
    "healthy": "green",
    "stored": "green",
    "idle": "yellow",
    "queued": "yellow",
    "deleting": "yellow",
    "deleted": "red",
    "stale": "red",
    "missing": "red",
    "away": "red",
}

#: As long as a MIG instance's id.
_LONGEST_WORD = 48

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, as the function answers it.")(
        command
    )


def data_dir_option(command: _Command) -> _Command:
    """Add --data-dir: which runtime is meant."""
    return click.option(
        "--data-dir",
        default=DATA_DIR,
        show_default=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Where the runtime keeps everything.",
    )(command)


def name_data_dir(data_dir: Path) -> str:
    """Write the option that names a data directory, to be pasted; nothing where it is the default."""
    return "" if data_dir == DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"


class Seconds(click.ParamType[float]):
    """A duration such as 500ms or 30s."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        try:
            return value if isinstance(value, float) else parse_duration_s(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


def url_option(default: str | None, what: str) -> Callable[[_Command], _Command]:
    """Add --url with the address of a function, and what gives the token that `connect` sends."""

    def add(command: _Command) -> _Command:
        for option in (_token_file_option, _token_option):
            command = option(command)
        return click.option(
            "--url", default=default, show_default=default is not None, help=f"The address of {what}."
        )(command)

    return add


def _keep_token(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value:
        ctx.meta[_TOKEN] = value


def _keep_token_of_file(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    given, own = (ctx.get_parameter_source(name) for name in ("token", "token_file"))
    # What was typed comes before what the environment has.
    if value is None or given is ParameterSource.COMMANDLINE or (_TOKEN in ctx.meta and given is own):
        return
    try:
        words = value.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadConfig(f"{value} cannot be read: {getattr(exc, 'strerror', None) or 'not a text'}") from exc
    if len(words) != 1:
        raise BadConfig(f"{value} holds {len(words)} words: a token is expected, and nothing else")
    ctx.meta[_TOKEN] = words[0]


_TOKEN = f"{__name__}.token"
_token_option = click.option(
    "--token",
    envvar="GPU_TELEMETRY_TOKEN",
    expose_value=False,
    is_eager=True,
    callback=_keep_token,
    metavar="TOKEN",
    help="The token to send. Also GPU_TELEMETRY_TOKEN, which no list of processes shows.",
)
_token_file_option = click.option(
    "--token-file",
    envvar="GPU_TELEMETRY_TOKEN_FILE",
    expose_value=False,
    callback=_keep_token_of_file,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that holds the token. Also GPU_TELEMETRY_TOKEN_FILE.",
)


def connect(url: str) -> Client:
    """Make a client of a function that sends the token the command was given, if any.

    Raises:
        BadConfig: Not an address, or not a token.
    """
    return Client(url, click.get_current_context().meta.get(_TOKEN, ""))


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is deleted, unless the answer was given as --yes.

    Raises:
        UsageError: There is nobody to ask.
        Abort: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: say --yes, or --dry-run to see what would go")
    click.confirm(question, abort=True, err=True)


def format_cell(value: Any) -> str:
    """Write a value for a table: nothing where nothing was reported, never 0."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)  # noqa: PLR2004


def format_bytes(size: float) -> str:
    """Write a size for people: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":  # noqa: PLR2004
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def print_table(heads: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """Print a table; numbers are aligned to the right."""
    right = [
        any(isinstance(row[i], int | float) for row in rows)
        and all(row[i] is None or isinstance(row[i], int | float) for row in rows)
        for i in range(len(heads))
    ]
    cells = [[format_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(heads, cells, right, title)
        return
    if title:
        click.echo(title)
    widths = [max(len(line[i]) for line in [list(heads), *cells]) for i in range(len(heads))]
    for line in [list(heads), *cells]:
        click.echo(format_line(line, widths, right))


def format_line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    """Write one line of a plain table."""
    aligned = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(aligned).rstrip()


def _print_rich(
    heads: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool], title: str
) -> None:
    # rich costs 60 ms: only for those who see it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title or None, title_justify="left", header_style="bold")
    for i, (head, to_right) in enumerate(zip(heads, right, strict=True)):
        # A uuid or a host name is there to be copied: sentences give way to it on a narrow terminal.
        whole = all(" " not in line[i] and len(line[i]) <= _LONGEST_WORD for line in cells)
        table.add_column(head, justify="right" if to_right else "left", overflow="fold", no_wrap=whole)
    for line in cells:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in line))
    Console().print(table)
