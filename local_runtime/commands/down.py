"""`gpu-telemetry down`."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import click

from local_runtime.commands.bars import spinner
from local_runtime.commands.output import Seconds, data_dir_option
from local_runtime.running import find_pid, is_alive
from shared.errors import Transient

_POLL_S = 0.05
#: The guard clears away what a killed runtime has left in less than a second.
_CLEARED_S = 5.0


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
    how = "stopped"
    with spinner("stopping"):
        pid = ask_to_end(data_dir, signal.SIGTERM)
        gone = wait_gone(data_dir, _CLEARED_S if pid is None else timeout)
    if not gone and pid is not None:
        click.secho(f"it does not end within {timeout:g} s: killing it", fg="yellow", err=True)
        how = "killed"
        ask_to_end(data_dir, signal.SIGKILL)
        gone = wait_gone(data_dir, _CLEARED_S)
    if not gone:
        who = "a process that is no runtime" if pid is None else f"process {pid}, which does not go away"
        raise Transient(f"{data_dir} is still in use by {who}")
    click.echo(f"{how}: everything is down, the data stays in {data_dir}")


def ask_to_end(data_dir: Path, number: signal.Signals) -> int | None:
    """Send the runtime on a data directory a signal; returns its pid, None where there is none to send it to.

    Raises:
        PipelineError: It is somebody else's.
    """
    pid = find_pid(data_dir)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return pid


def wait_gone(data_dir: Path, timeout_s: float) -> bool:
    """Wait until no runtime holds the data directory; whether that is so in time."""
    deadline = time.monotonic() + timeout_s
    while is_alive(data_dir):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
