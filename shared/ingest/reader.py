"""Blocks of a CSV become tables of records, and a report of what could not.

A block in which nothing is wrong is parsed by Arrow straight into typed columns, and checked by the minimum
and maximum of each: its rows are never looked at. Only a block that fails a check goes the careful way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from shared.clock import MAX_TIME_MS
from shared.fields import NULL_WORDS
from shared.ingest import cells
from shared.ingest.blocks import Block
from shared.ingest.dialect import Layout
from shared.ingest.identity import (
    extract_label,
    strip_ports,
    synthetic_uuids,
    texts,
    with_instances,
)
from shared.ingest.lines import split_rows
from shared.ingest.report import Report, format_ms
from shared.ingest.summary import Summary
from shared.ingest.values import MAX_METRICS, check_range, pivot
from shared.records import LABELS, TEXT, TIMESTAMP, chunk

_BAD_TIME = "not a time: expected ISO 8601 such as 2024-01-15T10:30:00Z"
#: Rows of the first block by which unknown columns are judged, and those by which the form of times is.
_LEARNT_ROWS, _TIME_ROWS = 2000, 20
_TIME_TYPES = tuple(
    pa.timestamp(unit, tz=zone) for unit in ("ms", "us", "ns") for zone in ("UTC", None)
)  # fmt: skip
_FROM_LABELS = {
    "driver_version": "DCGM_FI_DRIVER_VERSION",
    "gpu_instance_id": "GPU_I_ID",
    "gpu_instance_profile": "GPU_I_PROFILE",
    "hostname": "Hostname",
}


class _NotClean(Exception):
    """The block wants the careful way."""


@dataclass(slots=True)
class _Raw:
    """Typed columns of a block: what the fast and the careful way both end in."""

    #: timestamp as epoch ms; labels and metric_name as text dictionaries; metrics and value as doubles.
    columns: dict[str, pa.Array]
    metrics: dict[int, pa.Array]
    #: The line of each row.
    lines: Callable[[], pa.Array]
    report: Report = field(default_factory=Report)

    def __len__(self) -> int:
        return len(self.columns["timestamp"])

    def reject(self, bad: pa.Array, column: str, values: pa.Array, reason: str) -> None:
        """Leave out the rows that a mask marks."""
        count = pc.sum(bad).as_py() or 0
        if not count:
            return
        lines = self.lines()
        self.report.rejected += count
        self.report.note(cells.bad_cells(values, bad, lines, column, reason, rejects=True))
        good = pc.invert(bad)
        self.columns = {name: values.filter(good) for name, values in self.columns.items()}
        self.metrics = {place: values.filter(good) for place, values in self.metrics.items()}
        kept = lines.filter(good)
        self.lines = lambda: kept


class Reader:
    """Parses the blocks of one file. `prepare` with the first block, then `parse` from any thread."""

    def __init__(self, layout: Layout, cluster: str) -> None:
        self._layout = layout
        self._cluster = cluster
        self._time_type = _TIME_TYPES[0]
        self._lock = threading.Lock()
        self._metrics: set[str] = set()
        self._summary = Summary()

    def prepare(self, block: Block) -> None:
        """Learn from the first block how times are written and which unknown columns hold numbers."""
        layout = self._layout
        cells_ = len(layout.heads)
        most = _LEARNT_ROWS if layout.unknown else _TIME_ROWS
        rows = split_rows(Block(b"\n".join(block.data.split(b"\n", most)[:most]), 1, 0, 0), cells_)
        wanted = [layout.named["timestamp"], *layout.unknown]
        if not rows.rows:
            return
        columns = cells.read_text_columns(rows, cells_, wanted)
        times = columns[layout.named["timestamp"]].drop_null()
        self._time_type = next((t for t in _TIME_TYPES if _casts(times[:1], t)), self._time_type)
        for place in layout.unknown:
            values = columns[place].drop_null()
            numbers, bad = cells.parse_numbers(values)
            if len(values) and 2 * (pc.sum(bad).as_py() or 0) > len(numbers):
                del layout.metrics[place]
                layout.warnings.append(f"column {layout.heads[place]!r} is not used: it holds text")

    def parse(self, block: Block) -> tuple[pa.Table | None, Report]:
        """Parse one block; the table is None where no row of it could be accepted."""
        try:
            raw = self._read_clean(block)
        except (_NotClean, pa.ArrowInvalid):
            raw = self._read_carefully(block)
        report = raw.report
        report.rows = len(raw) + report.rejected
        self._check_times(raw)
        self._identify(raw)
        table = self._build(raw) if len(raw) else None
        report.accepted = len(raw)
        if table is not None:
            self._summary.note(table, report)
        return table, report

    # -- the two ways in

    def _read_clean(self, block: Block) -> _Raw:
        layout = self._layout
        if layout.date is not None:
            raise _NotClean
        if b"\r" in block.data and block.data.count(b"\r") != block.data.count(b"\r\n"):
            raise _NotClean  # Arrow takes a bare carriage return for the end of a row
        names = [str(i) for i in range(len(layout.heads))]
        types: dict[str, pa.DataType] = {str(i): TEXT for i in layout.named.values()}
        types[str(layout.named["timestamp"])] = self._time_type
        types |= {str(i): pa.float64() for i in layout.metrics}
        if "value" in layout.named:
            types[str(layout.named["value"])] = pa.float64()
        table = pcsv.read_csv(
            pa.BufferReader(block.data),
            read_options=pcsv.ReadOptions(
                use_threads=False, column_names=names, block_size=len(block.data) + 1
            ),
            parse_options=pcsv.ParseOptions(newlines_in_values=True),
            convert_options=pcsv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=NULL_WORDS,
                strings_can_be_null=True,
            ),
        )
        if table.num_rows != block.lines:
            raise _NotClean
        columns = {}
        for name, place in layout.named.items():
            values = chunk(table, str(place))
            if name == "timestamp":
                values = self._clean_times(values)
            elif name not in ("value", "labels_raw"):
                _check_labels(values)
            columns[name] = values
        metrics = {place: chunk(table, str(place)) for place in layout.metrics}
        raw = _Raw(columns, metrics, lambda: _count_from(block.first_line, block.lines))
        if self._time_type.tz is None:
            raw.report.warn(_ASSUMED_UTC)
        return raw

    def _clean_times(self, values: pa.Array) -> pa.Array:
        if values.null_count:
            raise _NotClean
        if self._time_type.unit != "ms":
            values = pc.floor_temporal(values, unit="millisecond")
        return values.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())

    def _read_carefully(self, block: Block) -> _Raw:
        layout = self._layout
        split = split_rows(block, len(layout.heads))
        report = Report(rejected=len(split.rejected))
        report.note(split.rejected)
        lines = pa.array(split.numbers, pa.int64())
        wanted = sorted(
            {*layout.named.values(), *layout.metrics, *([] if layout.date is None else [layout.date])}
        )
        if split.rows:
            text = cells.read_text_columns(split, len(layout.heads), wanted)
        else:
            text = {place: pa.array([], pa.string()) for place in wanted}
        times_text = text[layout.named["timestamp"]]
        if layout.date is not None:
            times_text = pc.binary_join_element_wise(text[layout.date], times_text, " ")
        times, assumed = cells.parse_times(times_text)
        if assumed:
            report.warn(_ASSUMED_UTC)
        columns = {"timestamp": times}
        for name, place in layout.named.items():
            if name == "value":
                columns[name] = self._numbers(text[place], lines, place, report)
            elif name != "timestamp":
                columns[name] = text[place].dictionary_encode().cast(TEXT)
        metrics = {place: self._numbers(text[place], lines, place, report) for place in layout.metrics}
        raw = _Raw(columns, metrics, lambda: lines, report)
        raw.reject(pc.is_null(times), self._head("timestamp"), times_text, _BAD_TIME)
        for name in [n for n in columns if n in LABELS or n in ("uuid", "metric_name")]:
            values = texts(raw.columns[name])
            long = pc.fill_null(pc.greater(pc.utf8_length(values), cells.MAX_LABEL_CHARACTERS), False)  # noqa: FBT003
            raw.reject(long, self._head(name), values, f"longer than {cells.MAX_LABEL_CHARACTERS} characters")
        return raw

    def _numbers(self, values: pa.Array, lines: pa.Array, place: int, report: Report) -> pa.Array:
        numbers, bad = cells.parse_numbers(values)
        report.nulled += pc.sum(bad).as_py() or 0
        report.note(cells.bad_cells(values, bad, lines, self._layout.heads[place], "not a number"))
        return numbers

    def _head(self, name: str) -> str:
        place = self._layout.named.get(name)
        return name if place is None else self._layout.heads[place]

    # -- what both ways have in common

    def _check_times(self, raw: _Raw) -> None:
        times = raw.columns["timestamp"]
        bounds = pc.min_max(times)
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        if low is not None and (low < 0 or high >= MAX_TIME_MS):
            bad = pc.or_(pc.less(times, 0), pc.greater_equal(times, MAX_TIME_MS))
            shown = pa.array([None if t is None else _safe_format(t) for t in times.to_pylist()], pa.string())
            raw.reject(bad, self._head("timestamp"), shown, "outside the years 1970 to 2199")

    def _identify(self, raw: _Raw) -> None:
        """Give every row its uuid; rows that cannot have one are rejected."""
        columns = raw.columns
        if "labels_raw" in columns:
            for name, label in _FROM_LABELS.items():
                if name not in columns:
                    columns[name] = extract_label(columns["labels_raw"], label)
            del columns["labels_raw"]
        if "hostname" in columns and self._head("hostname").lower() == "instance":
            columns["hostname"] = strip_ports(columns["hostname"])
        nothing = pa.nulls(len(raw), pa.string()).dictionary_encode().cast(TEXT)
        uuid = columns.get("uuid", nothing)
        if uuid.null_count and {"hostname", "gpu_id"} <= set(columns):
            made = synthetic_uuids(columns["hostname"], columns["gpu_id"], self._cluster)
            missing = uuid.null_count
            uuid = pc.coalesce(texts(uuid), texts(made)).dictionary_encode().cast(TEXT)
            if uuid.null_count < missing:
                raw.report.warn(_MADE_UUID)
        columns["uuid"] = uuid
        if uuid.null_count:
            reason = "no uuid, and no hostname and gpu_id to make one from"
            raw.reject(pc.is_null(uuid), self._head("uuid"), texts(uuid), reason)
        if "gpu_instance_id" in columns and len(raw):
            columns = raw.columns
            columns["uuid"] = with_instances(columns["uuid"], columns["gpu_instance_id"])
        if "metric_name" in columns:
            names = raw.columns["metric_name"]
            raw.reject(pc.is_null(names), self._head("metric_name"), texts(names), "no metric name")

    def _admit(self, names: list[str]) -> set[str]:
        """Take the names of metrics of the long form in, as many as one file may have."""
        with self._lock:
            for name in names:
                if len(self._metrics) < MAX_METRICS:
                    self._metrics.add(name)
            return self._metrics & set(names)

    def _build(self, raw: _Raw) -> pa.Table:
        """Check the ranges of all metrics and put the records together."""
        labels = {
            n: raw.columns[n] for n in LABELS if n in raw.columns and raw.columns[n].null_count < len(raw)
        }
        times = raw.columns["timestamp"].cast(TIMESTAMP)
        if self._layout.kind == "dcgm-long":
            key_labels = {"uuid": raw.columns["uuid"], "timestamp": times, **labels}
            table, bad, nulled = pivot(
                key_labels,
                raw.columns["metric_name"],
                raw.columns["value"],
                raw.lines,
                self._head("value"),
                self._admit,
            )
            raw.report.nulled += nulled
            raw.report.note(bad)
            return table
        out = {"uuid": raw.columns["uuid"], "timestamp": times, **labels}
        for place, source in self._layout.metrics.items():
            head = self._layout.heads[place]
            values, bad_cells, nulled = check_range(raw.metrics[place], source, raw.lines, head)
            raw.report.nulled += nulled
            raw.report.note(bad_cells)
            out[source.field.name] = values
        return pa.table(out)


_MADE_UUID = "some rows have no uuid: a stable one was made from cluster, hostname and gpu_id"
_ASSUMED_UTC = "timestamps have no time zone: UTC was assumed"


def _casts(values: pa.Array, type_: pa.DataType) -> bool:
    try:
        values.cast(type_)
    except pa.ArrowInvalid:
        return False
    return len(values) > 0


def _count_from(first: int, rows: int) -> pa.Array:
    return pa.array(range(first, first + rows), pa.int64())


def _check_labels(values: pa.DictionaryArray) -> None:
    """Send a block the careful way whose labels want trimming, or are longer than a label is."""
    words = values.dictionary
    if not len(words):
        return
    trimmed = pc.all(pc.equal(pc.utf8_trim_whitespace(words), words)).as_py()
    if not trimmed or pc.max(pc.utf8_length(words)).as_py() > cells.MAX_LABEL_CHARACTERS:
        raise _NotClean


def _safe_format(ms: int) -> str:
    try:
        return format_ms(ms)
    except (OverflowError, ValueError, OSError):
        return str(ms)
