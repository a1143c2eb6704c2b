"""An etcd alone in the background: `python -m local_runtime.embedded_etcd start|stop`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import click

from local_runtime.embedded_etcd import START_TIMEOUT_S, build_spec, is_healthy, read_problem
from local_runtime.etcd_binary import find_etcd
from local_runtime.instance import describe_exit, open_log
from local_runtime.ports import read_port_problem
from shared.config import read_variable
from shared.errors import BadConfig, PipelineError

#: etcd answers SIGTERM within milliseconds unless its disk is very slow.
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05


def is_running(data_dir: Path) -> bool:
    """Whether an etcd has this data directory open: it holds a lock on its database as long as it lives."""
    try:
        with (data_dir / "etcd" / "member" / "snap" / "db").open("rb+") as database:
            fcntl.flock(database, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def start(data_dir: Path, endpoint: str) -> str:
    """Start an etcd that outlives this process, unless it runs already; returns what to say.

    Raises:
        BadConfig: No etcd on this machine, a bad endpoint, a taken port.
        PipelineError: It did not start.
    """
    host, port = _parse_endpoint(endpoint)
    if is_running(data_dir):
        if is_healthy(endpoint):
            return f"etcd already runs at {endpoint} on {data_dir}"
        raise BadConfig(f"another etcd has {data_dir} open, not at {endpoint}: stop it first")
    problem = read_port_problem(host, port)
    if problem is not None:
        raise BadConfig(f"cannot listen on {endpoint}: {problem.strerror} (say another with ETCD_ENDPOINTS)")
    data_dir.mkdir(parents=True, exist_ok=True)
    binary = find_etcd(read_variable("PATH"))
    spec = build_spec(binary, data_dir, host=host, port=port)
    spec.log_path.parent.mkdir(parents=True, exist_ok=True)
    with open_log(spec.log_path) as log:
        offset = log.tell()
        process = subprocess.Popen(
            spec.command,
            env=dict(spec.environment),
            cwd=spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (data_dir / "etcd.pid").write_text(f"{process.pid}\n")
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_healthy(endpoint):
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            happened = "is not healthy" if code is None else f"ended ({describe_exit(code)})"
            raise PipelineError(f"etcd {happened}: {read_problem(spec.log_path, offset)}")
        time.sleep(_POLL_S)
    warning = f"\n{binary.warning}" if binary.warning else ""
    return f"etcd {binary.version_text} runs at {endpoint} on {data_dir} (pid {process.pid}){warning}"


def stop(data_dir: Path) -> str:
    """Stop the etcd that `start` left running; returns what to say, also when there was none.

    Raises:
        PipelineError: It does not stop, or somebody else started it.
    """
    pid_file = data_dir / "etcd.pid"
    if not is_running(data_dir):
        pid_file.unlink(missing_ok=True)
        return f"no etcd runs on {data_dir}"
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        raise PipelineError(f"the etcd on {data_dir} was not started by this command") from None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while is_running(data_dir):
        if time.monotonic() > deadline:
            raise PipelineError(f"etcd (pid {pid}) on {data_dir} does not stop")
        time.sleep(_POLL_S)
    pid_file.unlink(missing_ok=True)
    return f"etcd on {data_dir} stopped"


def _parse_endpoint(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.removeprefix("http://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise BadConfig(f"{endpoint!r} is not host:port; etcd alone listens on one such address")
    return host, int(port)


_data_dir = click.option("--data-dir", required=True, type=click.Path(path_type=Path, file_okay=False))


@click.group()
def main() -> None:
    """Run an etcd alone in the background."""


@main.command("start")
@_data_dir
@click.option("--endpoint", default="127.0.0.1:2379", show_default=True, help="Where it listens, host:port.")
def _start(data_dir: Path, endpoint: str) -> None:
    """Start it and wait until it is healthy; fine if it runs already."""
    try:
        click.echo(start(data_dir, endpoint))
    except PipelineError as exc:
        raise click.ClickException(exc.message) from exc


@main.command("stop")
@_data_dir
def _stop(data_dir: Path) -> None:
    """Stop it; fine if none runs."""
    try:
        click.echo(stop(data_dir))
    except PipelineError as exc:
        raise click.ClickException(exc.message) from exc
