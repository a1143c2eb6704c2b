"""Pages: where an answer is cut off, by how many records it has and by how long it takes.

A page is cut between records of the answer, so that where it ends can be said: the last key answered, or
where no record was found for long, the last one looked at. Records over a step of time are never cut in the
middle of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.records import Place, last_place
from shared.api.types import parse_duration_ms
from shared.config import Settings
from shared.errors import LimitExceeded
from shared.records import chunk

T = TypeVar("T")


class Limits(NamedTuple):
    """What one answer may be."""

    #: The longest window, ms; None: any.
    range_ms: int | None
    rows: int
    time_s: float

    def check_range(self, start_ms: int | None, end_ms: int | None) -> None:
        """Refuse a window that is too long; where it is open, the caller says what is stored.

        Raises:
            LimitExceeded: It is.
        """
        if self.range_ms is None or start_ms is None or end_ms is None:
            return
        if end_ms - start_ms > self.range_ms:
            raise LimitExceeded(
                f"the window is {(end_ms - start_ms) / 1000:.0f} s long, one query may ask for "
                f"{self.range_ms / 1000:.0f} s (MAX_QUERY_RANGE): ask for a part by start_time and end_time",
                max_query_range_s=self.range_ms / 1000,
            )


def read_limits(config: Settings) -> Limits:
    """Take the limits from the settings."""
    longest = config.max_query_range
    return Limits(
        None if longest == "off" else parse_duration_ms(longest), config.max_query_rows, config.max_query_time
    )


class Watch:
    """Measures how long making an answer takes; the time a client takes to read it does not count."""

    def __init__(self, most_s: float, clock: Callable[[], float]) -> None:
        self._most_s = most_s
        self._clock = clock
        self._spent = 0.0
        self._since: float | None = None

    def timed(self, parts: Iterable[T]) -> Iterator[T]:
        """Yield the same, measuring how long each takes."""
        ahead = iter(parts)
        while True:
            self._since = self._clock()
            try:
                part = next(ahead)
            except StopIteration:
                return
            finally:
                self._spent += self._clock() - self._since
                self._since = None
            yield part

    def is_over(self) -> bool:
        """Tell whether it took longer than allowed."""
        now = 0.0 if self._since is None else self._clock() - self._since
        return self._spent + now > self._most_s


class TimeCut:
    """Ends chunks of records where time is up, where a group of them ends; iterate once."""

    def __init__(
        self, parts: Iterable[pa.Table], watch: Watch, *, group_ms: int = 1, descending: bool = False
    ) -> None:
        """Cut chunks between groups: what one GPU has in [k * group_ms, (k + 1) * group_ms)."""
        self._parts = parts
        self._watch = watch
        self._group_ms = group_ms
        self._descending = descending
        #: Where it was cut; None where it was not.
        self.place: Place | None = None

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the chunks, up to where time is up; at least one."""
        first = True
        for part in self._parts:
            if not part.num_rows:
                continue
            if not first and self._watch.is_over():
                rows = _rows_of_last_group(part, self._group_ms)
                if rows < part.num_rows or self._group_ms == 1:
                    yield part.slice(0, part.num_rows - rows) if self._group_ms > 1 else part
                    self.place = self._before_last_group(part)
                    return
            first = False
            yield part

    def behind(self, group: Place) -> Place:
        """Find the place behind a group, named by where it begins."""
        return group if self._descending else Place(group.uuid, group.ms + self._group_ms - 1)

    def _before_last_group(self, part: pa.Table) -> Place:
        """Find the place from which the last group of a chunk comes next, or where no groups are, its end."""
        last = last_place(part)
        if self._group_ms == 1:
            return last
        begin = last.ms // self._group_ms * self._group_ms
        return Place(last.uuid, begin + self._group_ms if self._descending else begin - 1)


def _rows_of_last_group(part: pa.Table, group_ms: int) -> int:
    """Count the rows at the end of a chunk that are of one GPU and one group."""
    last = last_place(part)
    begin = last.ms // group_ms * group_ms
    times = chunk(part, "timestamp").cast(pa.int64())
    inside = pc.and_(pc.greater_equal(times, begin), pc.less(times, begin + group_ms))
    own = pc.and_(inside, pc.equal(chunk(part, "uuid").cast(pa.string()), last.uuid))
    return int(pc.sum(own).as_py())


class Page:
    """The first records of an answer, and where the next page goes on; iterate once."""

    def __init__(self, parts: Iterable[pa.Table], limit: int, cut: TimeCut) -> None:
        """Cut an answer off after `limit` records, or where its parts, made of those of `cut`, were cut."""
        self._parts = parts
        self._limit = limit
        self._cut = cut
        #: How many records it had so far.
        self.rows = 0
        #: How many records it has; None until the end.
        self.count: int | None = None
        #: The place behind the last record, where there are more than these; known at the end.
        self.next: Place | None = None

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the chunks; none is empty."""
        yield from self._cut_off()
        self.count = self.rows

    def _cut_off(self) -> Iterator[pa.Table]:
        last: pa.Table | None = None
        for part in self._parts:
            if not part.num_rows:
                continue
            left = self._limit - self.rows
            if not left:
                break
            last = part.slice(0, left)
            self.rows += last.num_rows
            yield last
            if part.num_rows > left:
                break
        else:
            self.next = self._cut.place
            return
        self.next = None if last is None else self._cut.behind(last_place(last))
