"""The files of logs: the last records of all of them in the order of time, and those written later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from local_runtime.log_records import LogRecord, parse_record

_SUFFIX = ".log"
#: A log that was begun afresh has what it held before beside it, and who had it open goes on writing there.
_SUFFIXES = (f"{_SUFFIX}.1", _SUFFIX)
#: Read from the end, first so much, then four times as much, until there are enough records.
_FIRST_BYTES = 64 * 1024
#: So much of one file at a time while it is followed.
_BLOCK_BYTES = 1024 * 1024

#: Whether a record is wanted.
Wanted = Callable[[LogRecord], bool]


def list_services(folder: Path) -> list[str]:
    """List the services that have a log."""
    with contextlib.suppress(OSError):
        return sorted(path.stem for path in folder.iterdir() if path.suffix == _SUFFIX)
    return []


@dataclass(kw_only=True)
class _Log:
    """A file that is open; it stays the same when it gets another name."""

    service: str
    file: BinaryIO
    #: What was read of a line that is not complete.
    rest: bytes = b""
    #: The time of the last record.
    last_s: float | None = None


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
        self._open: dict[tuple[int, int], _Log] = {}

    def read_last(self, count: int, wanted: Wanted) -> list[LogRecord]:
        """Read the last records that are wanted, the oldest first; `read_new` goes on behind them."""
        found = []
        for log in self._look():
            found += _read_back(log, count, wanted)
        return _in_order(found)[-count:] if count else []

    def read_new(self) -> list[LogRecord]:
        """Read the records that were completed since the last look."""
        self._look()
        return _in_order([record for log in [*self._open.values()] for record in _read_on(log)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for log in self._open.values():
            log.file.close()
        self._open.clear()

    def _look(self) -> list[_Log]:
        """Open what is new, close what is gone and was read; returns what is new."""
        there, fresh = set(), []
        for service in self._services or list_services(self._folder):
            for suffix in _SUFFIXES:
                with contextlib.suppress(OSError):
                    path = self._folder / f"{service}{suffix}"
                    key = _identify(path.stat())
                    if key not in self._open:
                        file = path.open("rb")
                        key = _identify(os.fstat(file.fileno()))  # it may be another one by now
                        self._open[key] = _Log(service=service, file=file)
                        fresh.append(self._open[key])
                    there.add(key)
        for key in self._open.keys() - there:
            log = self._open[key]
            if log.file.tell() >= os.fstat(log.file.fileno()).st_size:
                log.file.close()
                del self._open[key]
        return fresh


def _identify(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _read_back(log: _Log, count: int, wanted: Wanted) -> list[LogRecord]:
    """Read the last records of a file, and leave it at its end."""
    size = log.file.seek(0, os.SEEK_END)
    length, found = _FIRST_BYTES, list[LogRecord]()
    while True:
        start = log.file.seek(max(0, size - length))
        *lines, log.rest = log.file.read(size - start).split(b"\n")
        if start:
            del lines[:1]  # its beginning is missing
        records = _parse(log, lines, None)
        found = [record for record in records if wanted(record)]
        if len(found) >= count or not start:
            log.last_s = records[-1].at_s if records else None
            return found[-count:] if count else []
        length *= 4


def _read_on(log: _Log) -> Iterator[LogRecord]:
    """Read what is new in a file; one that was cut is read from its beginning."""
    if log.file.tell() > os.fstat(log.file.fileno()).st_size:
        log.file.seek(0)
        log.rest = b""
    while block := log.file.read(_BLOCK_BYTES):
        *lines, log.rest = (log.rest + block).split(b"\n")
        for record in _parse(log, lines, log.last_s):
            log.last_s = record.at_s
            yield record


def _parse(log: _Log, lines: Sequence[bytes], before_s: float | None) -> list[LogRecord]:
    """Parse lines; those before the first that says its time are said to be of its time."""
    records = []
    for line in lines:
        if line.strip():
            records.append(parse_record(log.service, line.decode(errors="replace"), before_s))
            before_s = records[-1].at_s
    first_s = next((r.at_s for r in records if r.is_stamped), os.fstat(log.file.fileno()).st_mtime)
    return [replace(r, at_s=first_s) if r.at_s is None else r for r in records]


def _in_order(records: list[LogRecord]) -> list[LogRecord]:
    """Sort by time; a line that says none stays behind the one it stands behind."""
    return sorted(records, key=lambda record: record.at_s or 0.0)
