"""How `gpu-telemetry top` draws what it sees, for a terminal of 80 columns and more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.table import Table
from rich.text import Text

from local_runtime.commands.looks import (
    SHOWN_EVENTS,
    History,
    Look,
    describe_database,
    describe_event,
    describe_note,
    describe_process,
    describe_queue,
)
from shared.client import Json

#: By state: how an instance is drawn, also where there is no more than ASCII, and its colour.
_INSTANCES = {
    "ready": ("●", "#", "green"),
    "starting": ("◐", "+", "yellow"),
    "draining": ("○", "-", "cyan"),
    "backoff": ("✖", "x", "red"),
}
#: Wanted, and not there yet.
_WANTED = ("·", ".", "dim")
#: More are written as a number.
_MOST_DOTS = 10
_BARS = (" ▁▂▃▄▅▆▇█", " .:-=+*#%")
#: What becomes of a text that is too long; the sign for it is not ASCII.
_OVERFLOW: tuple[OverflowMethod, OverflowMethod] = ("ellipsis", "crop")
#: Lines get no longer than this; numbers far apart are hard to read.
_WIDEST = 110
#: Columns of numbers, and how wide they are at least: a table that moves is hard to read.
_NUMBERS = {"READY": 7, "FLIGHT": 6, "QUEUED": 6, "CONC": 5, "REQ/S": 6, "ROWS/S": 9, "COLD": 4}
#: What stands beside a sparkline.
_BESIDE_BARS = 32


def build_screen(look: Look, history: History, console: Console, address: str) -> Group:
    """Draw a look for a console of any size."""
    width = min(console.width, _WIDEST)
    plain = not console.encoding.lower().startswith("utf")
    parts: list[RenderableType] = [
        _build_head(look, address, width, plain=plain),
        Text(),
        _build_services(look.services, width, plain=plain),
        Text(),
        _build_queue(look.queue, plain=plain),
        _build_processes(look, plain=plain),
    ]
    flows = [_build_flow(s["name"], history, width, plain=plain) for s in look.services]
    if any(flows):
        parts += [Text(), Text("rows/s", style="bold"), *(flow for flow in flows if flow)]
    parts += [
        Text(),
        Text("scaling", style="bold"),
        _build_events(look.events[-SHOWN_EVENTS:], width, plain=plain),
    ]
    return Group(*parts)


def describe_instances(service: Json) -> str:
    """Write how many instances are ready, wanted, and allowed: 3/4/10."""
    return "/".join(
        str(value)
        for value in (service.get("ready"), service.get("desired"), service.get("max_scale") or "∞")
    )


def format_rate(value: Any, digits: int = 0) -> str:
    """Write a rate so that it needs no more than nine characters; nothing where it is not known."""
    if value is None:
        return ""
    return f"{value / 1e6:,.1f} M" if value >= 1e7 else f"{value:,.{digits}f}"  # noqa: PLR2004


def draw_bars(values: Sequence[float], bars: str) -> str:
    """Draw a line of bars, the largest value as the highest; what is not zero is never drawn as zero."""
    most = max(values, default=0.0)
    steps = len(bars) - 1
    return "".join(bars[max(1, round(v / most * steps)) if v > 0 else 0] for v in values)


def _build_head(look: Look, address: str, width: int, *, plain: bool) -> Text:
    at = datetime.fromtimestamp(look.at_s, UTC).astimezone()
    left, right = f"gpu-telemetry  {address}", f"{at:%H:%M:%S}  q quits"
    head = Text(left.ljust(max(0, width - len(right))) + right, no_wrap=True, overflow=_OVERFLOW[plain])
    head.stylize("bold", 0, len("gpu-telemetry"))
    return head


def _build_services(services: Sequence[Json], width: int, *, plain: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", width=width)
    table.add_column("SERVICE", no_wrap=True, overflow=_OVERFLOW[plain], min_width=7)
    table.add_column("INSTANCES", no_wrap=True, overflow="crop", min_width=10)
    for head, least in _NUMBERS.items():
        table.add_column(head, justify="right", no_wrap=True, overflow=_OVERFLOW[plain], min_width=least)
    table.add_column("", no_wrap=True, overflow="crop", min_width=5)
    for service in services:
        note = describe_note(service)
        table.add_row(
            Text(str(service["name"]), style="bold red" if note else "bold"),
            _draw_instances(service, plain=plain),
            describe_instances(service).replace("∞", "-" if plain else "∞"),
            format_rate(service.get("in_flight")),
            Text(format_rate(service.get("queued")), style="yellow" if service.get("queued") else ""),
            format_rate(service.get("concurrency"), 1),
            format_rate(service.get("requests_per_s"), 1),
            format_rate(service.get("rows_per_s")),
            format_rate(service.get("cold_starts")),
            Text(note, style="bold red"),
        )
    return table


def _draw_instances(service: Json, *, plain: bool) -> Text:
    order = list(_INSTANCES)
    states = [str(instance.get("state")) for instance in service.get("instances", ())]
    drawn = Text()
    for state in sorted((s for s in states if s in order), key=order.index):
        sign, ascii_sign, colour = _INSTANCES[state]
        drawn.append(ascii_sign if plain else sign, style=colour)
    missing = (service.get("desired") or 0) - sum(s in {"ready", "starting", "backoff"} for s in states)
    drawn.append((_WANTED[1] if plain else _WANTED[0]) * max(0, missing), style=_WANTED[2])
    if len(drawn) > _MOST_DOTS:
        drawn.truncate(_MOST_DOTS - 1)
        drawn.append("+")
    return drawn


def _build_queue(queue: Mapping[str, float] | None, *, plain: bool) -> Text:
    known = queue is not None and "queue_depth" in queue
    line = Text("queue   ", style="bold", no_wrap=True, overflow=_OVERFLOW[plain])
    wrong = not known or bool(queue and queue.get("dead_letters"))
    return line.append(describe_queue(queue), style="not bold yellow" if wrong else "not bold")


def _build_processes(look: Look, *, plain: bool) -> Text:
    line = Text(no_wrap=True, overflow=_OVERFLOW[plain])
    for process in look.processes:
        sign, ascii_sign, colour = _INSTANCES["ready" if process.get("ready") else "backoff"]
        line.append(f"{ascii_sign if plain else sign} ", style=colour)
        line.append(f"{describe_process(process)}   ")
    return line.append(describe_database(look.queue), style="dim")


def _build_flow(name: str, history: History, width: int, *, plain: bool) -> Text | None:
    """Draw the rows of a service; None where there were none."""
    values = history.read_rows(name, max(1, width - _BESIDE_BARS))
    most = max(values, default=0.0)
    if not most:
        return None
    line = Text(f"{name:8.14}", no_wrap=True, overflow="crop")
    line.append(draw_bars(values, _BARS[plain]), style="green")
    return line.append(f" up to {format_rate(most)}", style="dim")


def _build_events(events: Sequence[Json], width: int, *, plain: bool) -> RenderableType:
    if not events:
        return Text("nothing was scaled yet", style="dim")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False, width=width)
    table.add_column(style="dim", no_wrap=True, overflow="crop")
    table.add_column(no_wrap=True, overflow=_OVERFLOW[plain])
    table.add_column(no_wrap=True, overflow=_OVERFLOW[plain], style="bold")
    table.add_column(no_wrap=True, overflow=_OVERFLOW[plain], ratio=1)
    for event in events:
        table.add_row(*(Text(cell) for cell in describe_event(event)))
    return table
