"""The header of a file: which dialect it is, and what each of its columns means.

Dialects: `wide` (a column per metric) and `dcgm-long` (a row per metric: metric_name and value). Heads are
matched trimmed and case-insensitively, in any order.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass, field
from typing import Literal

from shared.errors import NotCsv
from shared.fields import FIXED_METRICS, Source, find_source, own_source
from shared.ingest.blocks import MAX_LINE_BYTES, Read
from shared.records import RESERVED

Kind = Literal["wide", "dcgm-long"]

#: Heads by column, the one that wins first where a file has several: behind Prometheus, `pod` is the
#: exporter's own and `exported_pod` the workload's.
HEADS: dict[str, tuple[str, ...]] = {
    "timestamp": ("timestamp", "datetime", "ts", "time", "date"),
    "uuid": ("uuid", "gpu_uuid"),
    "gpu_id": ("gpu_id", "gpu", "index", "gpu_index"),
    "hostname": ("hostname", "host", "instance"),
    "device": ("device",),
    "modelname": ("modelname", "model_name", "model", "gpu_name", "name"),
    "cluster": ("cluster",),
    "pod": ("exported_pod", "pod", "pod_name"),
    "namespace": ("exported_namespace", "namespace"),
    "container": ("exported_container", "container", "container_name"),
    "driver_version": ("driver_version", "dcgm_fi_driver_version"),
    "gpu_instance_id": ("gpu_instance_id", "gpu_i_id"),
    "gpu_instance_profile": ("gpu_instance_profile", "gpu_i_profile"),
}
LONG_HEADS: dict[str, tuple[str, ...]] = {
    "metric_name": ("metric_name", "metric", "__name__"),
    "value": ("value",),
    "labels_raw": ("labels_raw", "labels"),
}
MAX_COLUMNS = 2000
MAX_HEAD_CHARACTERS = 200

_EXPECTED = (
    "expected a header with timestamp, uuid (or hostname and gpu_id) and metrics such as "
    + ", ".join(FIXED_METRICS[:3])
    + "; or the long form with metric_name and value"
)
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a zip archive",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PAR1": "Parquet",
}


@dataclass(slots=True)
class Layout:
    """What the columns of a file mean; by column number, from 0."""

    kind: Kind
    #: The heads as they stand in the file.
    heads: list[str]
    #: timestamp, labels, and in the long form metric_name, value and labels_raw.
    named: dict[str, int]
    #: `Date` where the file has date and time apart; then `timestamp` is the time.
    date: int | None = None
    metrics: dict[int, Source] = field(default_factory=dict)
    #: Columns that are in no catalogue: the first block tells whether they hold numbers.
    unknown: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_header(read: Read) -> tuple[str, bytes, int]:
    """Read the first line that is not empty; returns it, what was read beyond it, and its line number.

    Raises:
        NotCsv: There is none, or it is no text.
    """
    data, line, at_end = b"", 1, False
    while True:
        end = data.find(b"\n")
        if end < 0 and not at_end:
            if len(data) > MAX_LINE_BYTES:
                raise NotCsv(f"the first line is longer than {MAX_LINE_BYTES} bytes; {_EXPECTED}")
            piece = read(64 * 1024)
            at_end = not piece
            data += piece
            if line == 1 and data.startswith(b"\xef\xbb\xbf"):
                data = data[3:]
            _refuse_magic(data)
            continue
        head, rest = (data, b"") if end < 0 else (data[:end], data[end + 1 :])
        if head.strip():
            return _decode_header(head), rest, line
        if end < 0:
            raise NotCsv(f"the body is empty; {_EXPECTED}")
        data, line = rest, line + 1


def _refuse_magic(data: bytes) -> None:
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise NotCsv(f"the body is {what}, not plain text: send it as UTF-8 CSV")


def _decode_header(head: bytes) -> str:
    if b"\0" in head:
        raise NotCsv(f"the body is binary, not text; {_EXPECTED}")
    try:
        text = head.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError as exc:
        raise NotCsv(f"the header is not UTF-8 text; {_EXPECTED}") from exc
    if "\r" in text:
        raise NotCsv("its lines end in a bare carriage return: write them with LF or CRLF")
    return text


def parse_header(text: str) -> Layout:
    """Find out what the columns of a file mean.

    Raises:
        NotCsv: No telemetry is recognised in it; says which columns were expected.
    """
    try:
        heads = next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration) as exc:
        raise NotCsv(f"the header cannot be read: {exc}; {_EXPECTED}") from exc
    if len(heads) > MAX_COLUMNS:
        raise NotCsv(f"the header has {len(heads)} columns, more than {MAX_COLUMNS}")
    layout = _layout([h.strip()[:MAX_HEAD_CHARACTERS] for h in heads])
    missing = _missing(layout)
    if missing:
        raise NotCsv(
            f"unknown header: {missing}; {_EXPECTED}",
            headers=layout.heads[:50],
            expected={column: list(names) for column, names in HEADS.items()},
        )
    return layout


def _layout(heads: list[str]) -> Layout:
    places: dict[str, list[int]] = {}
    for number, head in enumerate(heads):
        places.setdefault(head.lower(), []).append(number)
    long = all(any(h in places for h in LONG_HEADS[c]) for c in ("metric_name", "value"))
    layout = Layout("dcgm-long" if long else "wide", heads, {})
    used: set[int] = set()
    for column, names in (HEADS | (LONG_HEADS if long else {})).items():
        found = [place for name in names for place in places.get(name, [])]
        if found:
            layout.named[column] = found[0]
            used |= set(found)
    if {"date", "time"} <= set(places) and layout.named["timestamp"] == places["time"][0]:
        layout.date = places["date"][0]
    taken: dict[str, str] = {}
    for number, head in enumerate(heads):
        if number not in used:
            _place(layout, number, head, taken)
    return layout


def _place(layout: Layout, number: int, head: str, taken: dict[str, str]) -> None:
    """Give a column that is no label its meaning."""
    source = find_source(head)
    if layout.kind == "dcgm-long" or not head:
        layout.warnings.append(f"column {head or number + 1!r} is not used")
        return
    known = source is not None
    source = source or own_source(head)
    if source is None or source.field.name in RESERVED:
        layout.warnings.append(f"column {head!r} is not used: its name cannot be a metric's")
    elif source.field.name in taken:
        first = taken[source.field.name]
        layout.warnings.append(f"column {head!r} is not used: {first!r} is {source.field.name} already")
    else:
        taken[source.field.name] = head
        layout.metrics[number] = source
        if not known:
            layout.unknown.append(number)


def _missing(layout: Layout) -> str:
    """Say what a header lacks; empty where it has enough."""
    named = layout.named
    if "timestamp" not in named:
        near = difflib.get_close_matches("timestamp", [h.lower() for h in layout.heads], 1)
        return f"no timestamp column{f' (is {near[0]!r} one?)' if near else ''}"
    if "uuid" not in named and not {"hostname", "gpu_id"} <= set(named):
        return "nothing that says which GPU a row is of"
    if layout.kind == "wide" and not layout.metrics:
        return "no column that could be a metric"
    return ""
