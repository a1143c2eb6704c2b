"""Follows the logs of children and picks out the lines a person should see."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from local_runtime.log_records import parse_object

#: More than this per look is cut: a function that fails a thousand times a second must not drown the rest.
MOST_LINES = 5
#: A log over this size is emptied while it is written; it is opened for appending, so that is safe.
CUT_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024
_WORTH_ATTENTION = ("warning", "error", "critical")


def parse_log_line(line: str) -> str | None:
    """Return what to show of a line: the message of a JSON record of level warning or above, else None."""
    record = parse_object(line)
    if record is None or record.get("level") not in _WORTH_ATTENTION:
        return None
    exception = str(record.get("exception", "")).strip().splitlines()
    return ": ".join([str(record.get("message", "")).strip(), *exception[-1:]])


class LogTail:
    """One log, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def read_new(self) -> list[str]:
        """Return what became worth attention since the last look."""
        lines = [shown for line in self._read_lines() if (shown := parse_log_line(line)) is not None]
        if len(lines) > MOST_LINES:
            hidden = len(lines) - MOST_LINES
            lines = [*lines[:MOST_LINES], f"and {hidden} more: see {self.path}"]
        return lines

    def read_last(self, count: int) -> list[str]:
        """Return the last lines, whatever they are."""
        with contextlib.suppress(OSError), self.path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 16 * 1024))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            return lines[-count:]
        return []

    def _read_lines(self) -> list[str]:
        try:
            size = self.path.stat().st_size
            if size < self._offset:  # begun afresh at a restart
                self._offset, self._rest = 0, b""
            with self.path.open("rb") as log:
                log.seek(self._offset)
                block = log.read(_READ_BYTES)
            self._offset += len(block)
            if self._offset >= CUT_BYTES:
                os.truncate(self.path, 0)
                self._offset = 0
        except OSError:
            return []
        *lines, rest = (self._rest + block).split(b"\n")
        # A line that does not end is not kept for ever.
        self._rest = rest if len(rest) < _READ_BYTES else b""
        return [line.decode(errors="replace") for line in lines]
