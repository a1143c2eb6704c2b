"""How `gpu-telemetry top` draws what it sees, for a terminal of 80 columns and more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from local_runtime.commands.output import format_bytes
from shared.client import Json

#: Lines get no longer than this; numbers far apart are hard to read.
WIDEST = 110
#: By state: how an instance is drawn, and its colour.
_INSTANCES = {
    "ready": ("●", "green"),
    "starting": ("◐", "yellow"),
    "draining": ("○", "cyan"),
    "backoff": ("✖", "red"),
}
#: More are written as a number.
_MOST_DOTS = 10
_BARS = " ▁▂▃▄▅▆▇█"
#: What stands beside a line of bars.
_BESIDE_BARS = 32
#: Of the last scaling decisions.
_SHOWN_EVENTS = 5
#: Numbers: head, key, digits, and the least width; a table that moves is hard to read.
_NUMBERS = (
    ("FLIGHT", "in_flight", 0, 6),
    ("QUEUED", "queued", 0, 6),
    ("CONC", "concurrency", 1, 5),
    ("REQ/S", "requests_per_s", 1, 6),
    ("ROWS/S", "rows_per_s", 0, 9),
    ("COLD", "cold_starts", 0, 4),
)


def build_screen(look: Json, rows: Mapping[str, Sequence[float]], address: str, width: int) -> Group:
    """Draw a look.

    Args:
        look: As `top` reads it.
        rows: Rows per second of each service so far, by its name; of none: no bars.
        address: The admin address.
        width: Of the terminal.
    """
    width = min(width, WIDEST)
    left, right = f"gpu-telemetry  {address}", f"{_format_clock(look['at'])}  q quits"
    parts: list[RenderableType] = [
        _line(left.ljust(width - len(right)) + right),
        Text(),
        _build_services(look["services"], width),
        Text(),
        _line(f"queue   {describe_queue(look['queue'])}"),
        _build_processes(look),
        Text(),
    ]
    bars = [_build_bars(name, list(values)[-max(1, width - _BESIDE_BARS) :]) for name, values in rows.items()]
    if any(bars):
        parts += [Text("rows/s", style="bold"), *(line for line in bars if line), Text()]
    parts.append(Text("scaling" if look["events"] else "nothing was scaled yet", style="bold"))
    return Group(*parts, _build_events(look["events"][-_SHOWN_EVENTS:], width))


def describe_queue(queue: Mapping[str, float] | None) -> str:
    """Say how the queue and its database stand."""
    if queue is None:
        return "not known: the queue source does not tell"
    if "queue_depth" not in queue:
        return "not known: etcd is away"
    said = [f"{queue['queue_depth']:,.0f} messages"]
    if queue["queue_depth"]:
        said[0] += f" ({format_bytes(queue['queue_bytes'])})"
        said.append(f"oldest {queue['queue_oldest_message_age_seconds']:.1f} s")
        said.append(f"{queue['queue_claimed']:,.0f} claimed")
    if queue.get("dead_letters"):
        said.append(f"{queue['dead_letters']:,.0f} dead letters")
    return ", ".join(said)


def draw_bars(values: Sequence[float]) -> str:
    """Draw a line of bars, the largest value as the highest; what is not zero is never drawn as zero."""
    most = max(values, default=0.0)
    return "".join(_BARS[max(1, round(v / most * 8)) if v > 0 else 0] for v in values)


def format_rate(value: float, digits: int = 0) -> str:
    """Write a number so that it needs no more than eleven characters."""
    return f"{value / 1e6:,.1f} M" if value >= 1e7 else f"{value:,.{digits}f}"  # noqa: PLR2004


def _format_clock(at: str) -> str:
    """Write a time of day in this machine's zone."""
    return f"{datetime.fromisoformat(at).astimezone():%H:%M:%S}"


def _line(text: str) -> Text:
    """Make a line whose first word is bold."""
    line = Text(text, no_wrap=True, overflow="ellipsis")
    line.stylize("bold", 0, len(text.split(" ", 1)[0]))
    return line


def _build_services(services: Sequence[Json], width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", width=width)
    table.add_column("SERVICE", no_wrap=True, min_width=7)
    table.add_column("INSTANCES", no_wrap=True, overflow="crop", min_width=_MOST_DOTS)
    table.add_column("READY", justify="right", no_wrap=True, min_width=7)
    for head, _, _, least in _NUMBERS:
        table.add_column(head, justify="right", no_wrap=True, min_width=least)
    table.add_column("", no_wrap=True, overflow="crop", min_width=5)
    for service in services:
        crashes = any(instance["state"] == "backoff" for instance in service["instances"])
        note = "panic" if service["panic"] else "crashing" if crashes else ""
        table.add_row(
            Text(service["name"], style="bold red" if note else "bold"),
            _draw_instances(service),
            f"{service['ready']}/{service['desired']}/{service['max_scale'] or '∞'}",
            *(format_rate(service[key], digits) for _, key, digits, _ in _NUMBERS),
            Text(note, style="bold red"),
        )
    return table


def _draw_instances(service: Json) -> Text:
    states = [instance["state"] for instance in service["instances"]]
    drawn = Text()
    for state, (sign, colour) in _INSTANCES.items():
        drawn.append(sign * states.count(state), style=colour)
    # Wanted, and not there yet.
    drawn.append("·" * (service["desired"] - len(states) + states.count("draining")), style="dim")
    if len(drawn) > _MOST_DOTS:
        drawn.truncate(_MOST_DOTS - 1)
        drawn.append("+")
    return drawn


def _build_processes(look: Json) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for process in look["processes"]:
        sign, colour = _INSTANCES["ready" if process["ready"] else "backoff"]
        restarts = f" ({process['restarts']} restarts)" if process["restarts"] else ""
        line.append(f"{sign} ", style=colour)
        line.append(f"{process['name']} {'ready' if process['ready'] else 'away'}{restarts}   ")
    queue = look["queue"] or {}
    if "etcd_database_bytes" in queue:
        quota = f" of {format_bytes(queue['etcd_quota_bytes'])}" if queue.get("etcd_quota_bytes") else ""
        line.append(f"database {format_bytes(queue['etcd_database_bytes'])}{quota}", style="dim")
    return line


def _build_bars(name: str, values: Sequence[float]) -> Text | None:
    """Draw the rows of a service; None where there were none."""
    if not any(values):
        return None
    line = Text(f"{name:8.14}", no_wrap=True, overflow="crop")
    line.append(draw_bars(values), style="green")
    return line.append(f" up to {format_rate(max(values))}", style="dim")


def _build_events(events: Sequence[Json], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False, width=width)
    for style, ratio in (("dim", None), ("", None), ("bold", None), ("", 1)):
        table.add_column(style=style, no_wrap=True, ratio=ratio)
    for event in events:
        before, after = event["from"], event["to"]
        change = f"{before} -> {after}" if before != after else event["action"]
        table.add_row(_format_clock(event["at"]), event["service"], change, Text(event["reason"]))
    return table
