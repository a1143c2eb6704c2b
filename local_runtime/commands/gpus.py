"""`gpu-telemetry gpus`."""

from __future__ import annotations

import click

from local_runtime.commands.output import QUERY_URL, connect, json_option, print_json, print_table, url_option

_COLUMNS = ("hostname", "id", "status", "name", "device", "uuid")


@click.command()
@url_option(QUERY_URL, "the query function")
@json_option
def gpus(url: str, *, as_json: bool) -> None:
    """List the GPUs that telemetry was seen of."""
    answer = connect(url).read("/api/v1/gpus")
    if as_json:
        print_json(answer)
        return
    rows = [[gpu.get(column) for column in _COLUMNS] for gpu in answer.get("data", [])]
    if not rows:
        click.echo("no GPUs yet: gpu-telemetry upload FILE.csv brings some")
        return
    print_table([column.upper() for column in _COLUMNS], rows)
