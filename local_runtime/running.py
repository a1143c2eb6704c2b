"""Who runs on a data directory: `lock`, which a runtime holds; `runtime.json`, where a ready one listens.

A runtime that was killed leaves both files behind, and its pid may come to be somebody else's. So only the
lock says whether a runtime lives, its pid stands in the lock file itself, and nobody is taken for it who does
not have that file open.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import psutil

from shared import clock
from shared.errors import BadConfig, Conflict, PipelineError

_LOCK = "lock"
_FILE = "runtime.json"
#: The guard of a runtime that was killed holds the lock until everything of it is gone.
_LOCK_TIMEOUT_S = 1.0
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Running:
    """A runtime that is ready."""

    pid: int
    #: RFC 3339.
    started_at: str
    host: str
    #: Addresses by service name.
    urls: Mapping[str, str]
    #: The address of the admin port.
    admin: str


@contextlib.contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[int]:
    """Hold the exclusive lock of a data directory, which is made if need be; gives the lock's descriptor.

    Raises:
        BadConfig: The directory cannot be made or written.
        Conflict: Another runtime holds the lock.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise BadConfig(f"the data directory {data_dir} cannot be used: {exc.strerror}") from exc
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise Conflict(
                    f"the data directory {data_dir} is in use by another gpu-telemetry (--data-dir)"
                )
            time.sleep(_POLL_S)
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def signed(data_dir: Path, lock: int) -> Iterator[None]:
    """Write this process's pid into the lock that it holds; what `announce` wrote is gone at the end.

    Args:
        data_dir: The data directory.
        lock: The descriptor of its lock.
    """
    (data_dir / _FILE).unlink(missing_ok=True)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    try:
        yield
    finally:
        (data_dir / _FILE).unlink(missing_ok=True)


def announce(data_dir: Path, *, host: str, urls: Mapping[str, str], admin: str) -> Running:
    """Write down that this process is ready, and where; whoever reads meanwhile sees all of it or nothing."""
    at = datetime.fromtimestamp(clock.now_s(), UTC).isoformat(timespec="seconds")
    running = Running(pid=os.getpid(), started_at=at, host=host, urls=dict(urls), admin=admin)
    fresh = data_dir / f"{_FILE}.new"
    fresh.write_text(json.dumps(asdict(running), indent=2) + "\n")
    fresh.replace(data_dir / _FILE)
    return running


def is_alive(data_dir: Path) -> bool:
    """Tell whether a runtime, or what it has left to be cleared away, holds the data directory's lock.

    Raises:
        PipelineError: It may not be looked at.
    """
    try:
        lock = os.open(data_dir / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as exc:
        raise PipelineError(f"{data_dir} is somebody else's: {data_dir / _LOCK} cannot be read") from exc
    except OSError:
        return False
    try:
        # Shared: two that look do not take each other for a runtime. One that starts just now tries again.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def find_pid(data_dir: Path) -> int | None:
    """Find the process of the runtime that holds the lock, ready or not; None where there is none.

    Also None while its guard clears away what a killed runtime has left: then the lock is held all the same.

    Raises:
        PipelineError: It is somebody else's.
    """
    pid = _read_pid(data_dir)
    if pid is None:
        return None
    try:
        opened = psutil.Process(pid).open_files()
        return pid if any((data_dir / _LOCK).samefile(file.path) for file in opened) else None
    except psutil.AccessDenied as exc:
        raise PipelineError(f"the runtime on {data_dir} (process {pid}) is somebody else's") from exc
    except (psutil.Error, OSError):
        return None


def read_running(data_dir: Path) -> Running | None:
    """Read where the runtime on a data directory listens, whoever's it is; None where none is ready."""
    try:
        pid = _read_pid(data_dir)
        written = json.loads((data_dir / _FILE).read_text())
        running = Running(**{field.name: written[field.name] for field in fields(Running)})
    except (PipelineError, OSError, ValueError, TypeError, KeyError):
        return None
    return running if running.pid == pid else None


def _read_pid(data_dir: Path) -> int | None:
    """Read who has signed the lock, where it is held."""
    try:
        return int((data_dir / _LOCK).read_text()) if is_alive(data_dir) else None
    except (OSError, ValueError):
        return None
