"""`gpu-telemetry top`."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import urllib3

from local_runtime.commands.output import Seconds, data_dir_option, json_option, print_json
from local_runtime.running import read_running
from shared import clock
from shared.client import Client, Json
from shared.errors import PipelineError

if TYPE_CHECKING:
    from rich.console import Console

ADMIN_URL = "http://127.0.0.1:8090"
#: So soon the screen follows a terminal that was made larger or smaller.
_KEY_WAIT_S = 0.1
_SHORTEST_S = 0.1
#: The runtime's loop answers at once; one that is stopped does not.
_ANSWER_S = 5.0
#: The queue source asks etcd first; a screen does not wait for it.
_METRICS_TIMEOUT_S = 1.0
#: Readings of a service; more than the widest screen shows.
_REMEMBERED = 200
_GAUGE = re.compile(r"^gpu_telemetry_(\w+) (\S+)$", re.MULTILINE)


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
    terminal it looks once.
    """
    if interval < _SHORTEST_S:
        raise click.BadParameter("at least 100ms", param_hint="--interval")
    running = read_running(data_dir)
    client = Client(url or (running.admin if running else ADMIN_URL), idle_s=_ANSWER_S)
    if as_json:
        _print_json(client, interval, once=once)
    else:
        _show(client, interval, once=once or not sys.stdout.isatty())


def read_look(client: Client) -> Json:
    """Look at a runtime: `at`, its `services`, `processes`, `events`, and the `queue` (None: nobody tells).

    It wakes nothing: how the queue stands the queue source tells, which always runs, as no function does.

    Raises:
        Transient: There is no runtime.
        PipelineError: What answers is none.
    """
    answer, events = client.read("/services"), client.read("/events")
    if not isinstance(answer.get("services"), list):
        raise PipelineError(f"{client.url} tells of no services: it is not the admin port of a runtime")
    return {
        "at": datetime.fromtimestamp(clock.now_s(), UTC).isoformat(timespec="milliseconds"),
        "services": answer["services"],
        "processes": answer["processes"],
        "events": events["events"],
        "queue": _read_gauges(answer.get("metrics")),
    }


def _read_gauges(url: str | None) -> dict[str, float] | None:
    """Read our gauges that have no labels, by what follows `gpu_telemetry_`."""
    if url is None:
        return None
    try:
        answer = urllib3.request("GET", url, retries=False, timeout=_METRICS_TIMEOUT_S)
    except urllib3.exceptions.HTTPError:
        return None
    found = _GAUGE.findall(answer.data.decode(errors="replace"))
    return {name: float(value) for name, value in found} if answer.status == 200 else None  # noqa: PLR2004


def _print_json(client: Client, interval_s: float, *, once: bool) -> None:
    while True:
        print_json(read_look(client))
        if once:
            return
        time.sleep(interval_s)


def _show(client: Client, interval_s: float, *, once: bool) -> None:
    # rich costs 60 ms: only for those who see it.
    from rich.console import Console  # noqa: PLC0415

    from local_runtime.commands.screen import WIDEST, build_screen  # noqa: PLC0415

    look = read_look(client)
    console = Console(width=None if sys.stdout.isatty() else WIDEST)
    if once:
        console.print(build_screen(look, {}, client.url, console.width))
        return
    _watch(client, look, console, interval_s)


def _watch(client: Client, look: Json, console: Console, interval_s: float) -> None:
    """Draw looks until q is pressed."""
    from rich.live import Live  # noqa: PLC0415

    from local_runtime.commands.screen import build_screen  # noqa: PLC0415

    rows: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
    with _unechoed_keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            for service in look["services"]:
                rows[service["name"]].append(service["rows_per_s"])
            drawn_for, deadline = None, time.monotonic() + interval_s
            while (left_s := deadline - time.monotonic()) > 0:
                if drawn_for != console.size:
                    drawn_for = console.size
                    live.update(build_screen(look, rows, client.url, console.width), refresh=True)
                if _is_quit(min(left_s, _KEY_WAIT_S)):
                    return
            look = read_look(client)


def _is_quit(wait_s: float) -> bool:
    """Wait a moment for a key; whether it was q, or the terminal is gone."""
    if not sys.stdin.isatty():
        time.sleep(wait_s)
        return False
    readable, _, _ = select.select([sys.stdin], [], [], wait_s)
    return bool(readable) and os.read(sys.stdin.fileno(), 1) in {b"q", b"Q", b""}


@contextlib.contextmanager
def _unechoed_keys() -> Iterator[None]:
    """Have keys arrive one by one and unechoed; whatever ends this, the terminal is as it was."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # the shell would get a screen without a cursor
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
