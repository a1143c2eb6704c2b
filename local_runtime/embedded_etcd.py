"""An etcd of our own on a folder: for `gpu-telemetry up`, for tests, and alone in the background.

    python -m local_runtime.embedded_etcd start --data-dir D --endpoint H:P
    python -m local_runtime.embedded_etcd stop --data-dir D

In the data directory: `etcd/` (etcd's own), `etcd-port` (the port of the last run, taken again when it is
still free), `logs/etcd.log`, and `etcd.pid` when it runs alone in the background.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from local_runtime.etcd_binary import EtcdBinary, build_command, find_etcd
from local_runtime.guard import Guard
from local_runtime.instance import Child, ChildSpec, describe_exit
from local_runtime.ports import LOOPBACK, build_url, find_free_port
from shared.config import environment, read_variable
from shared.errors import PipelineError

#: From start to a healthy answer; an etcd with a few GiB of data needs some seconds.
START_TIMEOUT_S = 60.0
_POLL_S = 0.02


def build_spec(binary: EtcdBinary, data_dir: Path, *, host: str = LOOPBACK, port: int) -> ChildSpec:
    """Say how to start an etcd on a data directory; its peer port is any free one."""
    folder = data_dir.absolute()
    return ChildSpec(
        name="etcd",
        command=build_command(
            binary,
            data_dir=folder / "etcd",
            client_url=build_url(host, port),
            peer_url=build_url(LOOPBACK, find_free_port()),
        ),
        environment={k: v for k, v in environment().items() if not k.startswith("ETCD_")},
        cwd=folder,
        log_path=folder / "logs" / "etcd.log",
        address=(host, port),
        probe=partial(is_healthy, f"{host}:{port}"),
        grace_s=3.0,
    )


def has_data(data_dir: Path) -> bool:
    """Whether an etcd has written into this data directory before."""
    return (data_dir / "etcd" / "member").exists()


def is_healthy(endpoint: str, *, timeout_s: float = 1.0) -> bool:
    """Ask an etcd (`host:port`) whether it is healthy: it has a leader and can commit."""
    # http.client, since urllib3 costs 60 ms of import that `start` does not otherwise need.
    import http.client  # noqa: PLC0415

    connection = http.client.HTTPConnection(endpoint, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and str(answer.get("health")).lower() == "true"


def parse_last_problem(log: str) -> str:
    """Return the last line of an etcd log that says what went wrong, or an empty text."""
    for line in reversed(log.splitlines()):
        try:
            record = json.loads(line)
        except ValueError:
            if line.startswith(("panic:", "flag ", "error ")):
                return line.strip()
            continue
        if isinstance(record, dict) and record.get("level") in ("error", "fatal", "panic"):
            return ": ".join(str(record[key]) for key in ("msg", "error") if record.get(key))
    return ""


def read_log_tail(path: Path, *, offset: int = 0, limit_bytes: int = 64 * 1024) -> str:
    """Read the end of a log, but nothing before `offset` (what earlier runs wrote)."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as log:
        size = log.seek(0, 2)
        log.seek(max(min(offset, size), size - limit_bytes))
        return log.read().decode(errors="replace")
    return ""


def start_etcd(data_dir: Path, guard: Guard, *, port: int | None = None) -> tuple[Child, str]:
    """Start an etcd on a data directory and wait until it is healthy.

    Args:
        data_dir: Made if it does not exist.
        guard: Ends etcd should this process be killed.
        port: The client port; without one that of the last run, or any free one.

    Returns:
        The running child and its endpoint, `host:port`.

    Raises:
        BadConfig: There is no etcd on this machine.
        PipelineError: It did not start; says the last line of its log.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    chosen = port or find_free_port(preferred=read_remembered_port(data_dir))
    child = Child(build_spec(find_etcd(read_variable("PATH")), data_dir, port=chosen), guard)
    log_path = child.spec.log_path
    offset = log_path.stat().st_size if log_path.exists() else 0
    child.start()
    try:
        _wait_until_healthy(child, offset)
    except BaseException:
        child.stop()
        raise
    remember_port(data_dir, chosen)
    return child, f"{LOOPBACK}:{chosen}"


@contextlib.contextmanager
def running_etcd(data_dir: Path, *, port: int | None = None) -> Iterator[str]:
    """Run an etcd for the length of a `with` block; gives its endpoint, `host:port`.

    Raises:
        BadConfig: There is no etcd on this machine.
        PipelineError: It did not start.
    """
    with Guard() as guard:
        child, endpoint = start_etcd(data_dir, guard, port=port)
        try:
            yield endpoint
        finally:
            child.stop()


def _wait_until_healthy(child: Child, log_offset: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not child.is_ready():
        code = child.exit_code()
        if code is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            continue
        happened = "is not healthy" if code is None else f"ended ({describe_exit(code)})"
        raise PipelineError(f"etcd {happened}: {read_problem(child.spec.log_path, log_offset)}")


def read_problem(log_path: Path, offset: int) -> str:
    """Say what an etcd's log has to say about its end, in one line that names the log."""
    problem = parse_last_problem(read_log_tail(log_path, offset=offset)) or "its log does not say why"
    return f"{problem} (see {log_path})"


def remember_port(data_dir: Path, port: int) -> None:
    """Write down the client port, so that the next run takes the same."""
    (data_dir / "etcd-port").write_text(f"{port}\n")


def read_remembered_port(data_dir: Path) -> int | None:
    """Return the client port of the last run, if it is known."""
    try:
        port = int((data_dir / "etcd-port").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return port if 0 < port < 2**16 else None


if __name__ == "__main__":
    from local_runtime.etcd_alone import main

    main()
