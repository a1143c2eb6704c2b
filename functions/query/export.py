"""Exporting: what to ask for, and the rows of GPUs in a window with their versions, as Arrow.

An answer is Arrow IPC streams one after the other, for the columns differ from batch to batch: each batch of
GPUs is a stream of its own, sorted by (uuid, timestamp). The last one is empty and says in its metadata how
many rows there were: an answer without it is not complete.

Rows are collapsed, not resolved: whatever rows a key still has, with all their versions.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa
from flask import Request, Response

from functions.query.records import BATCH_ROWS, Window, iter_rows
from shared.api import export as api
from shared.api.endpoint import Parameters
from shared.errors import InvalidInput
from shared.http import Route, data_response, stream_response
from shared.queue import Queue
from shared.records import FIRST_MS, LAST_MS, collapse, concat
from shared.store.gpus import Gpus
from shared.store.read import Store, read_again
from shared.store.segment import SegmentInfo

_DAY_MS = 86_400_000
#: Rows that are sorted at a time.
MAX_ROWS = 2 * BATCH_ROWS
#: Rows in one record batch: what a reader holds at a time.
_CHUNK_ROWS = 64 * 1024
_OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)


class TooManyRows(Exception):
    """A batch has so many more rows than estimated that it is to be split."""


@dataclass(frozen=True, slots=True)
class Span:
    """What is known of one GPU's rows: when, both ends included, and about how many.

    Nobody counts them: each GPU is taken to have as many as the others.
    """

    uuid: str
    first_ms: int
    last_ms: int
    rows: int

    def rows_within(self, start_ms: int, end_ms: int) -> int:
        """Estimate how many of them lie in [start, end), as if they were spread evenly."""
        overlap = min(self.last_ms + 1, end_ms) - max(self.first_ms, start_ms)
        return max(-(-self.rows * overlap // (self.last_ms + 1 - self.first_ms)), 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are read together: of GPUs, in order of uuid, in [start, end)."""

    uuids: tuple[str, ...]
    start_ms: int
    end_ms: int

    def split(self) -> tuple[Batch, Batch] | None:
        """Cut it in two, by GPUs or a single one by time; None where it is as small as can be."""
        middle = len(self.uuids) // 2
        if middle:
            return replace(self, uuids=self.uuids[:middle]), replace(self, uuids=self.uuids[middle:])
        middle = (self.start_ms + self.end_ms) // 2
        if middle == self.start_ms:
            return None
        return replace(self, end_ms=middle), replace(self, start_ms=middle)


def plan_batches(spans: Sequence[Span], window: Window, most: int = BATCH_ROWS) -> Iterator[Batch]:
    """Group GPUs, in order, into batches of about `most` rows; a single one may have more."""
    start = min((s.first_ms for s in spans), default=0) if window.start_ms is None else window.start_ms
    end = max((s.last_ms + 1 for s in spans), default=0) if window.end_ms is None else window.end_ms
    uuids: list[str] = []
    rows = 0
    for span in spans:
        wanted = span.rows_within(start, end)
        if uuids and rows + wanted > most:
            yield Batch(tuple(uuids), start, end)
            uuids, rows = [], 0
        if wanted:
            uuids.append(span.uuid)
            rows += wanted
    if uuids:
        yield Batch(tuple(uuids), start, end)


def estimate_days(spans: Iterable[Span], segments: Iterable[SegmentInfo]) -> dict[str, int]:
    """Estimate the rows of each UTC day, YYYY-MM-DD, within the time of some GPU.

    By GPUs and by segments, the higher of both: where one had a gap, the other may know.
    """
    by_gpu = rows_by_day((s.first_ms, s.last_ms, s.rows) for s in spans)
    by_segment = rows_by_day((s.min_ms, s.max_ms, s.rows) for s in segments)
    return {
        datetime.fromtimestamp(day * 86400, UTC).strftime("%Y-%m-%d"): max(
            round(max(rows, by_segment.get(day, 0.0))), 1
        )
        for day, rows in sorted(by_gpu.items())
    }


def rows_by_day(stretches: Iterable[tuple[int, int, int]]) -> dict[int, float]:
    """Spread rows evenly over the days, since the epoch, of stretches of (first ms, last ms, rows).

    A single row of 1970 makes a stretch fifty years long: the days between are not gone through for each.
    """
    edges: dict[int, float] = defaultdict(float)
    #: From that day on: rows a day more, and stretches more that cover it.
    steps: dict[int, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for first_ms, last_ms, count in stretches:
        first, last = first_ms // _DAY_MS, last_ms // _DAY_MS
        if first == last:
            edges[first] += count
            continue
        per_ms = count / (last_ms + 1 - first_ms)
        edges[first] += per_ms * ((first + 1) * _DAY_MS - first_ms)
        edges[last] += per_ms * (last_ms + 1 - last * _DAY_MS)
        for day, sign in ((first + 1, 1), (last, -1)):
            rate, covering = steps[day]
            steps[day] = (rate + sign * per_ms * _DAY_MS, covering + sign)
    rows = dict(edges)
    rate, covering = 0.0, 0
    for day, after in itertools.pairwise(sorted(steps)):
        rate, covering = rate + steps[day][0], covering + steps[day][1]
        if covering:
            for covered in range(day, after):
                rows[covered] = rows.get(covered, 0.0) + rate
    return rows


def encode_stream(table: pa.Table) -> bytes:
    """Write rows as one Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.remove_metadata(), options=_OPTIONS) as writer:
        writer.write_table(table, max_chunksize=_CHUNK_ROWS)
    return bytes(sink.getvalue())


class Export:
    """The routes of exporting."""

    def __init__(
        self,
        store: Callable[[], Store],
        gpus: Callable[[], Gpus],
        queue: Callable[[], Queue],
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._gpus = gpus
        self._queue = queue
        self._now_ms = now_ms

    def routes(self) -> list[Route]:
        """List what is served."""
        return [Route(api.EXPORT_PLAN, self._plan), Route(api.EXPORT, self._rows)]

    def _plan(self, _request: Request, _wanted: Parameters) -> Response:
        """Answer what there is to export. `queued` messages wait, and will not be in it."""
        now_ms = self._now_ms()
        queued = self._queue().depth_now()
        spans = self._spans()
        segments = self._store().index().segments
        data: dict[str, Any] = {
            "until_ms": now_ms,
            "first_ms": min((s.first_ms for s in spans), default=None),
            "last_ms": max((s.last_ms for s in spans), default=None),
            "rows": sum(s.rows for s in segments),
            "queued": queued,
            "days": estimate_days(spans, segments),
            "gpus": [
                {"uuid": s.uuid, "first_ms": s.first_ms, "last_ms": s.last_ms, "rows": s.rows} for s in spans
            ],
        }
        return data_response(data)

    def _rows(self, _request: Request, wanted: api.ExportWanted) -> Response:
        window = Window(start_ms=wanted.start_time, end_ms=wanted.end_time)
        first, last = wanted.first_uuid, wanted.last_uuid
        if first is not None and last is not None and first > last:
            raise InvalidInput("first_uuid comes after last_uuid: both are included, in order")
        spans = [s for s in self._spans() if (first or "") <= s.uuid and (last is None or s.uuid <= last)]
        streams = self._iter_streams(plan_batches(spans, window))
        # What fails at once is answered as an error; what fails later breaks the connection.
        return stream_response(itertools.chain([next(streams)], streams), api.ARROW)

    def _spans(self) -> Sequence[Span]:
        summary = read_again(self._gpus().read)
        if summary is None:
            return []
        names = ("uuid", FIRST_MS, LAST_MS)
        columns = [summary.column(name).to_pylist() for name in names]
        rows = -(-sum(s.rows for s in self._store().index().segments) // summary.num_rows)
        return [
            Span(uuid, first_ms, last_ms, rows)
            for uuid, first_ms, last_ms in sorted(zip(*columns, strict=True))
        ]

    def _iter_streams(self, batches: Iterable[Batch]) -> Iterator[bytes]:
        rows = 0
        for batch in batches:
            for table in self._iter_tables(batch):
                rows += table.num_rows
                yield encode_stream(table)
        yield encode_end(rows)

    def _iter_tables(self, batch: Batch) -> Iterator[pa.Table]:
        """Read a batch, in as many pieces as it takes: estimates are off where records come in clumps."""
        pieces = [batch]
        while pieces:
            piece = pieces.pop()
            halves = piece.split()
            try:
                table = read_again(partial(self._read, piece, MAX_ROWS if halves else None))
            except TooManyRows:
                pieces += reversed(halves or ())
                continue
            if table is not None:
                yield table

    def _read(self, batch: Batch, most: int | None) -> pa.Table | None:
        window = Window(start_ms=batch.start_ms, end_ms=batch.end_ms)
        held, rows = [], 0
        for part in iter_rows(self._store(), batch.uuids[0], batch.uuids[-1], window):
            held.append(part)
            rows += part.num_rows
            if most is not None and rows > most:
                raise TooManyRows
        return collapse(concat(held)) if held else None


def encode_end(rows: int) -> bytes:
    """Write the stream that ends an answer: no rows, and how many there were before."""
    sink = pa.BufferOutputStream()
    schema = pa.schema([], metadata={"end": "true", "rows": str(rows)})
    with pa.ipc.new_stream(sink, schema):
        pass
    return bytes(sink.getvalue())
