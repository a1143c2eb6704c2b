"""The REST answers that are records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from functions.query.answers import Answers, name_answer
from functions.query.columns import choose_columns, iter_complete, stored_columns
from functions.query.filters import label_patterns, match_labels
from functions.query.formats import Format, choose_format
from functions.query.inventory import Inventory
from functions.query.paging import Limits, Page, TimeCut, Watch
from functions.query.question import read_question
from functions.query.records import GpuRecords, Window, find_segments, iter_many
from shared.api import telemetry as api
from shared.api.records import GpuFilter
from shared.http import Route
from shared.records import FIRST_MS, LAST_MS, STATUS
from shared.store.gpus import newest_records
from shared.store.read import Store


class Telemetry:
    """The routes of records."""

    def __init__(
        self, store: Callable[[], Store], inventory: Inventory, limits: Limits, clock: Callable[[], float]
    ) -> None:
        """Make them; `clock` counts seconds, by which it is measured how long an answer takes."""
        self._store = store
        self._inventory = inventory
        self._limits = limits
        self._clock = clock
        self._answers = Answers()

    def routes(self) -> list[Route]:
        """List what is served."""
        return [
            Route(api.GPU_TELEMETRY, self._gpu_telemetry),
            Route(api.TELEMETRY, self._telemetry),
            Route(api.LATEST, self._latest),
        ]

    def _gpu_telemetry(self, request: Request, wanted: api.GpuTelemetryWanted) -> Response:
        gpu, hostname = wanted.gpu, wanted.hostname
        uuid = gpu if hostname is None and not gpu.isdigit() else self._inventory.resolve(gpu, hostname)
        question = read_question(request, wanted, self._limits, about=uuid, limit=wanted.limit)
        window, descending = question.window, question.descending
        if question.after is not None:
            window = window.beyond(question.after.ms, descending=descending)
        store = self._store()
        segments = find_segments(store, uuid, window)
        self._check_range(question.window, [s.min_ms for s in segments], [s.max_ms for s in segments])
        columns = self._columns(wanted.fields, question.form, lambda t: t.filter(pc.equal(t["uuid"], uuid)))
        etag = name_answer(question.key(), columns, tuple(s.id for s in segments))
        known = self._answers.find(request, etag)
        if known is not None:
            return known
        records = GpuRecords(store, uuid, window, segments, descending=descending)
        watch = Watch(self._limits.time_s, self._clock)
        cut = TimeCut(records, watch, group_ms=question.group_ms or 1, descending=descending)
        parts = question.shape(iter(cut))
        first = next(watch.timed(parts), None)
        if first is None:
            # Whether there is such a GPU is another question, and no answer is kept to it.
            self._inventory.resolve(uuid, None)
        ahead = itertools.chain([] if first is None else [first], parts)
        page = Page(_complete(ahead, wanted.fields, columns), question.limit, cut)
        return self._answers.answer(
            None if first is None else etag,
            question.form,
            question.write(page, columns, watch),
            rows=lambda: page.count,
            next_link=lambda: question.next_link(request, page),
            is_of=lambda: not records.retaken and cut.place is None,
        )

    def _telemetry(self, request: Request, wanted: api.TelemetryWanted) -> Response:
        question = read_question(
            request,
            wanted,
            self._limits,
            about=_filter_of(wanted),
            limit=wanted.limit,
            reference_ms=self._reference_ms(wanted),
        )
        store = self._store()
        version = store.version(store.index())
        summary = self._with_status(wanted, question.reference_ms)
        seen = ([], []) if summary is None else (summary.column(FIRST_MS), summary.column(LAST_MS))
        self._check_range(question.window, *seen)
        columns = self._columns(wanted.fields, question.form, lambda _: summary)
        etag = name_answer(question.key(), columns, version)
        known = self._answers.find(request, etag)
        if known is not None:
            return known
        watch = Watch(self._limits.time_s, self._clock)
        patterns = label_patterns(wanted)
        records = iter_many(
            store,
            [] if summary is None else _seen_within(summary, question.window),
            question.window,
            None if patterns or question.group_ms else question.limit + 1,
            after=question.after,
            descending=question.descending,
        )
        cut = TimeCut(records, watch, group_ms=question.group_ms or 1, descending=question.descending)
        parts = question.shape(match_labels(part, patterns) for part in cut)
        page = Page(_complete(parts, wanted.fields, columns), question.limit, cut)
        return self._answers.answer(
            etag,
            question.form,
            question.write(page, columns, watch),
            rows=lambda: page.count,
            next_link=lambda: question.next_link(request, page),
            is_of=lambda: cut.place is None and store.version(store.index()) == version,
        )

    def _latest(self, request: Request, wanted: api.LatestWanted) -> Response:
        """Answer one record per GPU: its last time, and of each field the newest value that was reported."""
        form = choose_format(request, wanted.format)
        # One read of the index says both what is stored and how that is called.
        view = self._inventory.view(wanted.as_of)
        summary = view.known.summary
        if wanted.status is not None:
            summary = summary.filter(pc.equal(view.gpus.column(STATUS), wanted.status))
        columns = self._columns(wanted.fields, form, lambda _: summary)
        # Which GPUs have a status follows from what is stored and from how many they are, not from the time.
        etag = name_answer(form.name, _filter_of(wanted), summary.num_rows, columns, view.known.version)
        known = self._answers.find(request, etag)
        if known is not None:
            return known
        newest = newest_records(match_labels(summary, label_patterns(wanted)))
        pieces = form.write([newest] if newest.num_rows else [], columns, None)
        return self._answers.answer(etag, form, pieces, rows=lambda: newest.num_rows)

    def _check_range(self, window: Window, first_ms: Iterable[Any], last_ms: Iterable[Any]) -> None:
        """Refuse a window that is too long; where it is open, what is stored counts."""
        if self._limits.range_ms is None:
            return
        low = window.start_ms
        if low is None:
            low = min(map(int, first_ms), default=None)
        high = window.end_ms
        if high is None:
            high = max((int(ms) + 1 for ms in last_ms), default=None)
        self._limits.check_range(low, high)

    def _reference_ms(self, wanted: GpuFilter) -> int | None:
        return None if wanted.status is None else self._inventory.reference_ms(wanted.as_of)

    def _with_status(self, wanted: GpuFilter, reference_ms: int | None) -> pa.Table | None:
        """Summarise the GPUs of the status that is wanted, measured against a time; None: there is none."""
        summary = self._inventory.summary()
        if summary is None or reference_ms is None:
            return summary
        status = self._inventory.status_at(summary, reference_ms).column(STATUS)
        return summary.filter(pc.equal(status, wanted.status))

    def _columns(
        self,
        fields: Sequence[str] | None,
        form: Format,
        own: Callable[[pa.Table], pa.Table | None],
    ) -> tuple[str, ...] | None:
        """List the columns of an answer, where it has the same ones from its first record to its last.

        `own` picks the GPUs of a summary that it is about.
        """
        if fields is not None:
            return choose_columns(fields, lambda: stored_columns(self._inventory.summary()))
        if not form.has_columns:
            return None
        summary = self._inventory.summary()
        return stored_columns(None if summary is None else own(summary))


def _filter_of(wanted: GpuFilter) -> Hashable:
    return tuple(sorted(wanted.model_dump(include=set(GpuFilter.model_fields)).items()))


def _complete(
    parts: Iterator[pa.Table], fields: Sequence[str] | None, columns: Sequence[str] | None
) -> Iterator[pa.Table]:
    """See to it that no value is left out of columns that nobody asked for."""
    return parts if fields is not None or columns is None else iter_complete(parts, columns)


def _seen_within(summary: pa.Table, window: Window) -> list[str]:
    """List the GPUs that may have records in a window: those whose records do not all lie outside."""
    low, high = window.start_ms, window.end_ms
    first_ms, last_ms = summary.column(FIRST_MS), summary.column(LAST_MS)
    keep = pc.and_(
        pc.greater_equal(last_ms, -(2**62) if low is None else low),
        pc.less(first_ms, 2**62 if high is None else high),
    )
    found: list[str] = summary.filter(keep).column("uuid").to_pylist()
    return found
