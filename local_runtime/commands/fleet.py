"""`gpu-telemetry fleet [QUESTION]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from local_runtime.commands.output import (
    QUERY_URL,
    connect,
    format_cell,
    json_option,
    print_json,
    print_table,
    url_option,
)
from shared.client import Json

#: By question: where its list is, and the columns worth a terminal's width.
_TABLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "idle": ("gpus", ("hostname", "gpu_id", "gpu_utilization_max", "memory_used_mb", "since", "pod", "uuid")),
    "missing": ("hosts", ("hostname", "expected", "seen", "missing", "unnamed", "last_seen")),
    "throttled": ("gpus", ("hostname", "gpu_id", "share", "throttled_now", "reasons", "last_seen", "uuid")),
    "errors": ("gpus", ("hostname", "gpu_id", "severity", "xids", "first_seen", "last_seen", "uuid")),
    "busy-but-empty": (
        "gpus",
        ("hostname", "gpu_id", "gpu_utilization_avg", "sm_active_avg", "power_draw_avg", "pod", "uuid"),
    ),
    "top": ("gpus", ("hostname", "gpu_id", "value", "records", "model", "pod", "uuid")),
    "utilization": (
        "groups",
        ("name", "gpus", "gpu_utilization", "sm_active", "tensor_active", "power_draw"),
    ),
}
#: Options that only one question knows.
_OWN = {"field": "top", "agg": "top", "limit": "top", "by": "utilization"}


@click.command()
@click.argument("question", type=click.Choice(["summary", *_TABLES]), default="summary")
@click.option("--start", metavar="TIME", help="The first time, such as now-6h; inclusive.")
@click.option("--end", metavar="TIME", help="The end, exclusive.")
@click.option("--hostname", help="Only this host; * stands for anything. Likewise the next three.")
@click.option("--model")
@click.option("--pod")
@click.option("--namespace")
@click.option("--field", help="top: by which field, such as power_draw.")
@click.option("--agg", type=click.Choice(["avg", "max", "min", "last", "p95"]), help="top: of its values.")
@click.option("--limit", type=click.IntRange(min=1), help="top: how many GPUs.")
@click.option("--by", type=click.Choice(["host", "model", "pod", "namespace"]), help="utilization: grouped.")
@url_option(QUERY_URL, "the query function")
@json_option
def fleet(
    *, question: str, start: str | None, end: str | None, url: str, as_json: bool, **given: Any
) -> None:
    """Ask what the fleet did: over the last hour, or the newest one that is stored.

    \b
    summary         all of it in figures
    idle            GPUs that do nothing, those that hold memory first
    missing         hosts with fewer GPUs than they should have
    throttled       GPUs that are held back, and why
    errors          XID errors with their meaning, ECC, remapped rows
    busy-but-empty  utilization over 90 %, and the SMs do little
    top             GPUs by one field (--field)
    utilization     by host, model, pod or namespace (--by)
    """  # noqa: D301  (click's own mark for a paragraph that stays as it is)
    for name, of in _OWN.items():
        if given[name] is not None and of != question:
            raise click.UsageError(f"--{name} is for `fleet {of}`")
    if question == "top" and given["field"] is None:
        raise click.UsageError("say by which field: --field power_draw")
    answer = connect(url).read(f"/api/v1/fleet/{question}", start_time=start, end_time=end, **given)
    if as_json:
        print_json(answer)
        return
    data = answer["data"]
    click.echo(describe_window(data))
    if question == "summary":
        _print_summary(data)
    else:
        _print_list(question, data)
    if data["not_reported"]:
        click.secho(f"not reported: {', '.join(data['not_reported'])}", dim=True)


def _print_list(question: str, data: Json) -> None:
    name, columns = _TABLES[question]
    if data[name] is None:
        click.echo("not reported: no record has what would tell")
    elif not data[name]:
        click.echo("none")
    else:
        heads = [column.removeprefix("gpu_").upper() for column in columns]
        print_table(heads, [[_show(row[column]) for column in columns] for row in data[name]])


def describe_window(data: Json) -> str:
    """Say over which window an answer is, and of how many GPUs."""
    window = data["window"]
    basis = {"given": "", "clock": " (the last hour)", "latest": " (the newest hour that is stored)"}
    return f"{window['start_time']} to {window['end_time']}{basis[window['basis']]}: {data['gpus_seen']} GPUs"


def _print_summary(data: Json) -> None:
    for name, value in data.items():
        if name not in ("window", "not_reported", "energy_from"):
            shown = "not reported" if value is None else format_cell(value)
            click.echo(f"  {name.replace('_', ' '):<22}{shown}")


def _show(value: Any) -> Any:
    """Write what is more than a value in a few words."""
    if isinstance(value, list):
        return ", ".join(str(_show(part)) for part in value)
    if isinstance(value, dict):
        if "code" in value:
            return f"XID {value['code']} ({value['meaning']})"
        return value["reason"] if "reason" in value else value.get("avg")
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
