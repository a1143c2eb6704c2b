"""The command `gpu-telemetry`: which subcommands there are, and how every failure is told in one line.

A subcommand is imported when it is called: `gpu-telemetry --help` needs none of them.
"""

from __future__ import annotations

import importlib
import keyword
import logging
import os
import sys

import click

from shared.config import read_variable
from shared.errors import BadConfig, PipelineError

log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

#: Subcommand, and what the list says of it. It lives in local_runtime.commands, in a module of its name, with
#: a `_` after it where Python has that word for itself.
_COMMANDS = {
    "up": "Run the whole pipeline here; --detach: in the background.",
    "down": "Stop the pipeline that runs here.",
    "top": "Watch the services at work: instances, requests, queue, scaling.",
    "logs": "Print the logs of the services, and follow them.",
    "trigger": "Send a function an event by hand.",
    "upload": "Upload CSV files and print what became of their rows.",
    "gpus": "List the GPUs.",
    "telemetry": "Print the records of one GPU.",
    "tail": "Print records as they are stored.",
    "fleet": "Ask what the fleet did: idle, missing, throttled, errors, top.",
    "status": "Show how the functions and the queue are doing.",
    "dead": "List, look into, replay or drop dead letters.",
    "uploads": "List, show and undo uploads.",
    "export": "Write everything stored into Parquet files.",
    "import": "Bring exported files back in.",
    "retention": "Show what retention keeps, and delete what is past it.",
}


class _Commands(click.Group):
    """A group that imports a subcommand only when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names in the order of the table."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command = getattr(importlib.import_module(f"local_runtime.commands.{name}"), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gpu-telemetry", message="gpu-telemetry %(version)s")
def cli() -> None:
    """GPU telemetry from CSV: upload it, lose nothing, ask what the fleet did."""


def main() -> None:
    """Run the command; every failure is one line on standard error and an exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command with arguments; returns the exit status: 0, 1 failed, 2 a bad option or setting."""
    # https://no-color.org; rich sees to it by itself. None: wherever there is a terminal.
    colour = False if read_variable("NO_COLOR") else None
    try:
        outcome = cli.main(arguments, prog_name="gpu-telemetry", standalone_mode=False, color=colour)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); nothing more may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as exc:
        log.debug("failed", exc_info=exc, extra={"action": "failed"})
        status, sentence = describe_error(exc)
        click.echo(f"{click.style('error:', fg='red')} {sentence}", err=True, color=colour)
        return status
    return outcome if isinstance(outcome, int) else 0


def describe_error(exc: Exception) -> tuple[int, str]:
    """Return the exit status and the one sentence for a failure."""
    if isinstance(exc, click.UsageError):
        path = exc.ctx.command_path if exc.ctx else "gpu-telemetry"
        return EXIT_USAGE, f"{exc.format_message().rstrip('.')} (see {path} --help)"
    if isinstance(exc, click.ClickException):
        return EXIT_FAILED, exc.format_message()
    if isinstance(exc, PipelineError):
        return EXIT_USAGE if isinstance(exc, BadConfig) else EXIT_FAILED, exc.message
    return EXIT_FAILED, f"internal error: {type(exc).__name__}: {' '.join(str(exc).split())}"
