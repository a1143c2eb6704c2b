"""A lock in a folder, so that two commands do not write the same files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import Conflict


@contextmanager
def holding(file: Path, held: str) -> Iterator[None]:
    """Hold a lock, which is gone with whoever held it; its file goes at the end, and stays after a kill.

    Raises:
        Conflict: Somebody else holds it; says `held`.
        OSError: The folder cannot be written to.
    """
    lock = _take(file, held)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(lock)


def _take(file: Path, held: str) -> int:
    while True:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Conflict(held) from None
        except OSError:
            os.close(lock)
            raise
        # Whoever held it may have deleted the file since it was opened: then a third could make it anew.
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)
