"""`gpu-telemetry down`."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from local_runtime.commands.bars import spinner
from local_runtime.commands.output import Seconds, data_dir_option
from local_runtime.detach import CLEARED_S, ask_to_end, wait_gone
from local_runtime.running import is_alive
from shared.errors import Transient


@click.command()
@data_dir_option
@click.option(
    "--timeout",
    default="30s",
    show_default=True,
    type=Seconds(),
    help="How long requests under way may take to end; then it is killed.",
)
def down(*, data_dir: Path, timeout: float) -> None:
    """Stop the pipeline that runs on a data directory, in the background or in another terminal.

    What it has stored stays; where nothing runs there is nothing to do.
    """
    if not is_alive(data_dir):
        click.echo(f"nothing runs on {data_dir}")
        return
    with spinner("stopping"):
        pid = ask_to_end(data_dir, signal.SIGTERM)
        gone = wait_gone(data_dir, timeout)
    if not gone:
        click.secho(f"it does not end within {timeout:g} s: killing it", fg="yellow", err=True)
        # Its guard sees to what it had started.
        pid = ask_to_end(data_dir, signal.SIGKILL)
        if not wait_gone(data_dir, CLEARED_S):
            who = f"process {pid}" if pid else "the lock's owner"
            raise Transient(f"{data_dir} is still in use: {who} does not go away")
    click.echo(f"{'killed' if not gone else 'stopped'}: everything is down, the data stays in {data_dir}")
