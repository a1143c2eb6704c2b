"""`gpu-telemetry top`."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from local_runtime.commands.looks import (
    SHOWN_EVENTS,
    History,
    Look,
    Looker,
    describe_database,
    describe_event,
    describe_note,
    describe_process,
    describe_queue,
)
from local_runtime.commands.output import Seconds, data_dir_option, json_option, print_json, print_table
from local_runtime.running import read_running
from shared import clock
from shared.client import Client

ADMIN_URL = "http://127.0.0.1:8090"
#: So soon the screen follows a terminal that was made larger or smaller.
_KEY_WAIT_S = 0.1
_SHORTEST_S = 0.1
#: The runtime's loop answers at once; one that is stopped does not.
_ANSWER_S = 5.0
_QUIT = ("q", "Q")
_COLUMNS = (
    "name", "ready", "desired", "max_scale", "in_flight", "queued", "concurrency", "requests_per_s",
    "rows_per_s", "cold_starts",
)  # fmt: skip

#: Waits for a key at most so many seconds; returns it, or nothing.
ReadKey = Callable[[float], str]


@click.command()
@click.option(
    "--url",
    help=f"The admin address: that of the runtime on --data-dir, or {ADMIN_URL}, unless told otherwise.",
)
@data_dir_option
@click.option("--once", is_flag=True, help="Look once.")
@click.option("--interval", default="1s", show_default=True, type=Seconds(), help="Between two looks.")
@json_option
def top(*, url: str | None, data_dir: Path, once: bool, interval: float, as_json: bool) -> None:
    """Watch the services at work, until q or Ctrl-C: instances, requests, queue, rows, scaling.

    READY is how many instances are ready, how many are wanted and how many there may be. Where there is no
    terminal it looks once and prints a table.
    """
    if interval < _SHORTEST_S:
        raise click.BadParameter("at least 100ms", param_hint="--interval")
    running = read_running(data_dir)
    address = url or (running.admin if running else ADMIN_URL)
    is_meant = running is not None and running.admin == address.rstrip("/")
    looker = Looker(Client(address, idle_s=_ANSWER_S), running.metrics if running and is_meant else None)
    if as_json:
        _print_json(looker, interval, once=once)
    elif not sys.stdout.isatty():
        _print_plain(looker.look(clock.now_s()))
    else:
        _show(looker, address, interval, once=once)


def _print_json(looker: Looker, interval_s: float, *, once: bool) -> None:
    while True:
        look = looker.look(clock.now_s())
        at = datetime.fromtimestamp(look.at_s, UTC).isoformat(timespec="milliseconds")
        said = asdict(look)
        del said["at_s"]
        print_json({"at": at, **said})
        if once:
            return
        time.sleep(interval_s)


def _print_plain(look: Look) -> None:
    """Print what a program or a file gets: no colours, no signs, no history."""
    heads = (*_COLUMNS, "note")
    rows = [[*(s.get(name) for name in _COLUMNS), describe_note(s)] for s in look.services]
    print_table([head.upper() for head in heads], rows)
    click.echo(f"queue: {describe_queue(look.queue)}")
    for line in (describe_database(look.queue), *map(describe_process, look.processes)):
        if line:
            click.echo(line)
    for event in look.events[-SHOWN_EVENTS:]:
        click.echo("  ".join(word for word in describe_event(event) if word))


def _show(looker: Looker, address: str, interval_s: float, *, once: bool) -> None:
    # rich costs 60 ms: only for those who see it.
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    from local_runtime.commands.screen import build_screen  # noqa: PLC0415

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a reason may hold more than this terminal can write
    console, history = Console(), History()
    look = looker.look(clock.now_s())
    if once or console.is_dumb_terminal:
        history.add(look)
        console.print(build_screen(look, history, console, address))
        return
    with _keys() as read_key, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            history.add(look)
            drawn_for, deadline = None, time.monotonic() + interval_s
            while (left_s := deadline - time.monotonic()) > 0:
                if drawn_for != console.size:
                    drawn_for = console.size
                    live.update(build_screen(look, history, console, address), refresh=True)
                if read_key(min(left_s, _KEY_WAIT_S)) in _QUIT:
                    return
            look = looker.look(clock.now_s())


def _wait(wait_s: float) -> str:
    time.sleep(wait_s)
    return ""


@contextlib.contextmanager
def _keys() -> Iterator[ReadKey]:
    """Let keys be read one by one, unechoed, where standard input is a terminal; Ctrl-C stays what it is."""
    if not sys.stdin.isatty():
        yield _wait
        return
    terminal = sys.stdin.fileno()

    def read_key(wait_s: float) -> str:
        readable, _, _ = select.select([terminal], [], [], wait_s)
        return os.read(terminal, 1).decode(errors="replace") if readable else ""

    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield read_key
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
