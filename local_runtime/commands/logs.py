"""`gpu-telemetry logs [SERVICE...]`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from local_runtime.commands.output import DATA_DIR, data_dir_option
from local_runtime.log_files import LogFolder, list_services
from local_runtime.log_records import LEVELS, LogRecord, clean
from local_runtime.running import read_running
from shared import clock
from shared.errors import NotFound

_POLL_S = 0.2
_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")
_LEVEL_STYLES: dict[str, dict[str, Any]] = {
    "debug": {"dim": True},
    "warning": {"fg": "yellow"},
    "error": {"fg": "red"},
    "critical": {"fg": "red", "bold": True},
}


def _complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    known = list_services(ctx.params.get("data_dir", DATA_DIR) / "logs")
    return [service for service in known if service.startswith(incomplete)]


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...", shell_complete=_complete)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@click.option(
    "-n", "--lines", default=50, show_default=True, type=click.IntRange(min=0), help="The last so many."
)
@click.option("--level", type=click.Choice(LEVELS), default="debug", help="Only what is that bad or worse.")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print the lines as they were written.")
def logs(
    *, services: tuple[str, ...], follow: bool, lines: int, level: str, data_dir: Path, as_json: bool
) -> None:
    """Print what the services have logged, of all or of some, in the order of time.

    The logs outlive the pipeline: what it said before it stopped can still be read.
    """
    folder = data_dir / "logs"
    _check(services, folder, data_dir)
    printer = _Printer(as_json=as_json)
    with contextlib.closing(LogFolder(folder, services)) as files:
        printer.print(files.read_last(lines, lambda record: record.reaches(level)))
        while follow:
            time.sleep(_POLL_S)
            printer.print([record for record in files.read_new() if record.reaches(level)])


def _check(services: Sequence[str], folder: Path, data_dir: Path) -> None:
    running = read_running(data_dir)
    # One that is scaled to zero since the start has written nothing yet.
    known = sorted({*list_services(folder), *(running.urls if running else ())})
    if not known:
        raise NotFound(f"there are no logs in {folder}: `gpu-telemetry up` writes some (--data-dir)")
    for service in services:
        if service not in known:
            raise NotFound(f"there is no log of {service!r} in {folder}: there are {', '.join(known)}")


class _Printer:
    """Prints records, each column as wide as it had to be so far."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._width = 0
        self._colours: dict[str, str] = {}

    def print(self, records: Sequence[LogRecord]) -> None:
        """Print some records."""
        now_s = clock.now_s()
        self._width = max([self._width, *(len(record.source) for record in records)])
        for record in records:
            click.echo(record.line if self._as_json else self._format(record, now_s))

    def _format(self, record: LogRecord, now_s: float) -> str:
        at = "" if record.at_s is None else format_time(record.at_s, now_s)
        colour = self._colours.setdefault(record.service, _COLOURS[len(self._colours) % len(_COLOURS)])
        style = _LEVEL_STYLES.get(record.level, {})
        first, *more = [*clean(record.message).split("\n"), *clean(record.exception).splitlines()]
        extra = " ".join(f"{name}={clean(text)}" for name, text in record.iter_extra())
        parts = [
            click.style(f"{at:12}", dim=True),
            click.style(f"{clean(record.source):{self._width}}", fg=colour),
            click.style(f"{record.level:8} {first}" if record.level else first, **style),
        ]
        if extra:
            parts.append(click.style(extra, dim=True))
        return "\n    ".join(["  ".join(parts).rstrip(), *more])


def format_time(at_s: float, today_s: float) -> str:
    """Write a time in this machine's zone: without the day where it is today's."""
    at, today = (datetime.fromtimestamp(s, UTC).astimezone() for s in (at_s, today_s))
    clock_ = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
    return clock_ if at.date() == today.date() else f"{at:%Y-%m-%d} {clock_}"
