"""A question about records, read of a request: all that its answer depends on beside what is stored."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import pyarrow as pa
from flask import Request

from functions.query.cursor import Cursor, build_cursor, mark_of, parse_cursor
from functions.query.formats import Format, choose_format
from functions.query.paging import Limits, Page, Watch
from functions.query.records import Place, Window
from shared.api.records import Aggregate
from shared.api.telemetry import RecordsWanted
from shared.errors import LimitExceeded

#: Where the format cannot say what comes next, it is found out before the first of so many is answered.
HELD_ROWS = 100_000


class CutShort(LimitExceeded):
    """One answer may not be so long: ask for pages of limit=100000, or for JSON, which goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which records are asked for, and how they are to be answered."""

    form: Format
    #: What cursors of it are marked with: all of it but the limit, the fields and the format.
    mark: str
    #: The window of all its pages, and the place in it behind which this one begins.
    window: Window
    after: Place | None
    descending: bool
    #: The time, ms, within which records become one, and what their values do (None: the last one).
    group_ms: int | None
    agg: Aggregate | None
    limit: int
    #: Whether the client said how many it wants: getting as many tells it that there may be more.
    is_limited: bool
    #: What `status` is measured against, epoch ms; None where nobody asks for it.
    reference_ms: int | None

    def key(self) -> tuple[Hashable, ...]:
        """Tell all that an answer depends on, but for its columns: the same in every process."""
        window, after = self.window, self.after
        begin = None if after is None else (after.uuid, after.ms)
        asked = (self.form.name, self.limit, self.is_limited, self.reference_ms)
        return (self.mark, window.start_ms, window.end_ms, begin, *asked)

    def next_cursor(self, place: Place | None) -> str | None:
        """Write the cursor of the page that goes on behind a place."""
        if place is None:
            return None
        return build_cursor(Cursor(place, self.window, self.reference_ms), self.mark)

    def next_link(self, request: Request, page: Page) -> str | None:
        """Write where the next page is, for the header Link; None where none is, or nobody knows yet."""
        cursor = None if self.form.has_envelope else self.next_cursor(page.next)
        if cursor is None:
            return None
        asked = {**request.args.to_dict(), "cursor": cursor}
        return f"{request.path}?{urlencode(asked)}"

    def write(self, page: Page, columns: Sequence[str] | None, watch: Watch) -> Iterator[bytes]:
        """Write a page.

        Raises:
            CutShort: While iterating; the page was cut off, and its format does not tell.
        """
        form = self.form
        if form.has_envelope:
            return watch.timed(form.write(page, columns, lambda: self.next_cursor(page.next)))
        if self.limit <= HELD_ROWS:
            return form.write(list(watch.timed(page)), columns, None)
        return watch.timed(form.write(self._unless_cut(page), columns, None))

    def _unless_cut(self, page: Page) -> Iterator[pa.Table]:
        yield from page
        if page.next is not None and not (self.is_limited and page.rows == self.limit):
            raise CutShort

    def shape(self, parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Make the records of an answer of those that are stored."""
        if self.group_ms is None:
            return parts
        from functions.query import downsample  # noqa: PLC0415 - not for the plain question

        if self.agg is None:
            return downsample.iter_aligned(parts, self.group_ms, descending=self.descending)
        return downsample.iter_downsampled(parts, self.group_ms, self.agg, descending=self.descending)


def read_question(
    request: Request,
    wanted: RecordsWanted,
    limits: Limits,
    *,
    about: Hashable,
    limit: int | None,
    reference_ms: int | None = None,
) -> Question:
    """Read the question of a request.

    Args:
        request: Where the times and the format stand as they were written.
        wanted: Its parameters.
        limits: What one answer may be.
        about: Which GPUs it is about.
        limit: How many records are wanted, where that was said.
        reference_ms: What `status` is measured against, unless a cursor says so.

    Raises:
        InvalidInput: The cursor is none, or of another question.
        NotAcceptable: The client takes no format that there is.
        LimitExceeded: More records are asked for than a format can answer.
    """
    form = choose_format(request, wanted.format)
    times = request.args.get("start_time"), request.args.get("end_time")
    mark = mark_of((about, times, wanted.order, wanted.step, wanted.agg, wanted.align))
    cursor = None if wanted.cursor is None else parse_cursor(wanted.cursor, mark)
    window = Window(start_ms=wanted.start_time, end_ms=wanted.end_time)
    after = None
    if cursor is not None:
        window, after, reference_ms = cursor.window, cursor.after, cursor.reference_ms
    return Question(
        form=form,
        mark=mark,
        window=window,
        after=after,
        descending=wanted.order == "desc",
        group_ms=wanted.step or wanted.align,
        agg=None if wanted.step is None else wanted.agg or "avg",
        limit=_limit(form, limit, limits.rows),
        is_limited=limit is not None,
        reference_ms=reference_ms,
    )


def _limit(form: Format, limit: int | None, most: int) -> int:
    """Decide how many records a page has, at most.

    Raises:
        LimitExceeded: The format cannot say that there are more.
    """
    if limit is not None and limit > most and not form.has_envelope:
        raise LimitExceeded(
            f"limit={limit}: one answer has at most {most} records (MAX_QUERY_ROWS): ask for so many "
            "or fewer, or for JSON, which says how to go on",
            max_query_rows=most,
        )
    return most if limit is None else min(limit, most)
