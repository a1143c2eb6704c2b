"""`gpu-telemetry up --detach`, and what is said of a runtime that is ready."""

from __future__ import annotations

import itertools
import signal
import sys
from pathlib import Path

import click

from local_runtime.commands.bars import spinner
from local_runtime.commands.output import name_data_dir
from local_runtime.detach import Detached
from local_runtime.running import Running


def describe_running(running: Running, data_dir: Path, how_to_stop: str) -> str:
    """Say where everything is and what to try."""
    upload, query = running.urls.get("upload", ""), running.urls.get("query", "")
    own = "" if upload == "http://127.0.0.1:8081" else f" --url {upload}"
    asked = "" if query == "http://127.0.0.1:8080" else f" --url {query}"
    header = said = ""
    if running.auth_tokens is not None:
        header = '-H "Authorization: Bearer $GPU_TELEMETRY_TOKEN" '
        said = f", with a token of {running.auth_tokens} in GPU_TELEMETRY_TOKEN"
    addresses = {**running.urls, "admin": running.admin}
    if running.metrics:
        addresses["metrics"] = running.metrics
    lines = [
        "",
        click.style("The pipeline is up.", bold=True),
        *(f"  {name:8} {url}" for name, url in addresses.items()),
        f"  logs     {data_dir}/logs",
        "",
        f"Try next{said}:",
        f"  gpu-telemetry upload samples/two_hosts.csv --wait{own}",
        f"  gpu-telemetry gpus{asked}",
        f"  curl {header}{query}/api/v1/gpus",
        f"  gpu-telemetry top{name_data_dir(data_dir)}",
        how_to_stop,
        "",
    ]
    return "\n".join(lines)


def start_detached(data_dir: Path) -> None:
    """Start the same runtime in the background and wait until it is ready.

    Raises:
        PipelineError: It does not start; then nothing of it is left.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C: nothing half started is left behind
    detached = Detached([word for word in sys.argv[1:] if word != "--detach"], data_dir)
    with spinner("starting"):
        running = detached.wait_ready()
    for line in itertools.takewhile(bool, detached.read_output()):
        click.echo(line)
    stop = f"gpu-telemetry down{name_data_dir(data_dir)}"
    click.echo(describe_running(running, data_dir, f"It runs in the background: `{stop}` stops it."))
