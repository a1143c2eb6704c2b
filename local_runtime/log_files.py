"""The files of logs: the last records of all of them in the order of time, and those written later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import BinaryIO

from local_runtime.log_records import LogRecord, parse_record

#: A log that was begun afresh has what it held before beside it, and who had it open goes on writing there.
_SUFFIXES = (".log.1", ".log")
#: Read from the end, first so much, then four times as much, until there are enough records.
_FIRST_BYTES = 64 * 1024

#: A record and the time it is sorted by: its own, else that of the line it stands behind.
_Dated = tuple[float, LogRecord]


def list_services(folder: Path) -> list[str]:
    """List the services that have a log."""
    return sorted(path.stem for path in folder.glob("*.log"))


class LogFolder:
    """The logs of some services, or of all; files that come later belong to them too."""

    def __init__(self, folder: Path, services: Collection[str] = ()) -> None:
        """Open nothing yet.

        Args:
            folder: Where the logs are.
            services: Only these; none: all that have a log, now or later.
        """
        self._folder = folder
        self._services = services
        #: By inode: a file stays the same when it gets another name.
        self._logs: dict[int, _Log] = {}

    def read_last(self, count: int, wanted: Callable[[LogRecord], bool]) -> list[LogRecord]:
        """Read the last records that are wanted, the oldest first; `read_new` goes on behind them."""
        self._look()
        found = [dated for log in self._logs.values() for dated in log.read_last(count, wanted)]
        return _in_order(found)[-count:] if count else []

    def read_new(self) -> list[LogRecord]:
        """Read the records that were completed since the last look."""
        gone = self._look()
        found = [dated for log in self._logs.values() for dated in log.read_new()]
        for inode in gone:
            self._logs.pop(inode).file.close()
        return _in_order(found)

    def close(self) -> None:
        """Close the files."""
        for log in self._logs.values():
            log.file.close()

    def _look(self) -> set[int]:
        """Open what is new; returns what has no name any more."""
        there = set()
        for service in self._services or list_services(self._folder):
            for suffix in _SUFFIXES:
                with contextlib.suppress(OSError):
                    file = (self._folder / f"{service}{suffix}").open("rb")
                    inode = os.fstat(file.fileno()).st_ino
                    there.add(inode)
                    if inode in self._logs:
                        file.close()
                    else:
                        self._logs[inode] = _Log(service, file)
        return self._logs.keys() - there


class _Log:
    """One open file."""

    def __init__(self, service: str, file: BinaryIO) -> None:
        self.file = file
        self._service = service
        #: What was read of a line that is not complete.
        self._rest = b""
        #: The time of the last record.
        self._last_s: float | None = None

    def read_last(self, count: int, wanted: Callable[[LogRecord], bool]) -> list[_Dated]:
        """Read the last records, and stand at the end."""
        size, length = self.file.seek(0, os.SEEK_END), _FIRST_BYTES
        while True:
            start = self.file.seek(max(0, size - length))
            *lines, self._rest = self.file.read(size - start).split(b"\n")
            self._last_s = None
            # Where it does not begin with the file, the beginning of the first line is missing.
            found = [dated for dated in self._date(lines[bool(start) :]) if wanted(dated[1])]
            if len(found) >= count or not start:
                return found[-count:]
            length *= 4

    def read_new(self) -> list[_Dated]:
        """Read what was written since; a file that was cut is read from its beginning."""
        if self.file.tell() > os.fstat(self.file.fileno()).st_size:
            self.file.seek(0)
            self._rest = b""
        *lines, self._rest = (self._rest + self.file.read()).split(b"\n")
        return self._date(lines)

    def _date(self, lines: Iterable[bytes]) -> list[_Dated]:
        records = [
            parse_record(self._service, line.decode(errors="replace")) for line in lines if line.strip()
        ]
        if self._last_s is None:
            changed_s = os.fstat(self.file.fileno()).st_mtime
            self._last_s = next((record.at_s for record in records if record.at_s is not None), changed_s)
        dated = []
        for record in records:
            self._last_s = self._last_s if record.at_s is None else record.at_s
            dated.append((self._last_s, record))
        return dated


def _in_order(found: list[_Dated]) -> list[LogRecord]:
    """Sort by time; a line that says none stays behind the one it stands behind."""
    return [record for _, record in sorted(found, key=lambda dated: dated[0])]
