"""What query tells Prometheus: of each active GPU the newest value of each field, as dcgm-exporter would.

A GPU that went quiet would look alive for ever, and so would a field that is no longer reported: what is
older than STALE_AFTER is left out, as Prometheus does by itself with a target that is gone. When each GPU was
last seen is told of all, so that an alert on a missing one has something to look at.

Samples carry no times: Prometheus would not mark what ends then. Column by column in Arrow, a metric at a
time: 10,000 GPUs with 20 fields are 50 MB of text, of which a metric's share is in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from shared.api.endpoint import Parameters
from shared.api.metrics import METRICS
from shared.fields import COUNTERS, FIELDS, find_dcgm_name
from shared.http import Route, stream_response
from shared.http.metrics import CONTENT_TYPE
from shared.records import FIRST_MS, LAST_MS, chunk, metric_names
from shared.store.gpus import Gpus, Known
from shared.store.inventory import summarise
from shared.store.read import read_again

#: dcgm-exporter's names of labels, and `cluster`, which it does not have.
_LABELS = {
    "UUID": "uuid",
    "gpu": "gpu_id",
    "device": "device",
    "modelName": "modelname",
    "GPU_I_PROFILE": "gpu_instance_profile",
    "GPU_I_ID": "gpu_instance_id",
    "Hostname": "hostname",
    "DCGM_FI_DRIVER_VERSION": "driver_version",
    "container": "container",
    "namespace": "namespace",
    "pod": "pod",
    "cluster": "cluster",
}
#: What identifies a GPU whose other labels may be out of date.
_IDENTITY = ("UUID", "gpu", "Hostname", "cluster")
_OWN_PREFIX = "gpu_telemetry_"
#: What the names of our own metrics begin with, after the prefix.
_TAKEN = ("requests_total", "request_duration_seconds", "gpu_last_seen_timestamp_seconds")
LAST_SEEN = f"{_OWN_PREFIX}gpu_last_seen_timestamp_seconds"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Active GPUs with their labels written; good for as long as store and active records are the same."""

    known: Known
    #: Records of the inventory that are not too old.
    records: int
    newest: pa.Table
    labels: pa.Array


class GpuMetrics:
    """The route of query's metrics; `own` gives what the function tells of itself."""

    def __init__(
        self,
        gpus: Callable[[], Gpus],
        now_ms: Callable[[], int],
        stale_after_s: float,
        own: Callable[[], bytes],
    ) -> None:
        self._gpus = gpus
        self._now_ms = now_ms
        self._stale_after_ms = int(stale_after_s * 1000)
        self._own = own
        self._prepared: _Prepared | None = None

    def routes(self) -> list[Route]:
        """List what is served."""
        return [Route(METRICS, self._metrics)]

    def _metrics(self, _request: Request, _wanted: Parameters) -> Response:
        known = read_again(self._gpus().read_known)
        parts = iter(()) if known is None else self._iter_gpus(known)
        return stream_response(itertools.chain(parts, [self._own()]), CONTENT_TYPE)

    def _iter_gpus(self, known: Known) -> Iterator[bytes]:
        prepared = self._prepare(known)
        if prepared.records:
            for name in metric_names(prepared.newest.drop_columns([FIRST_MS, LAST_MS])):
                yield render_field(name, chunk(prepared.newest, name), prepared.labels)
        yield _render_last_seen(known.summary)

    def _prepare(self, known: Known) -> _Prepared:
        """Find what is not too old, and write its labels, unless that was done before."""
        since_ms = self._now_ms() - self._stale_after_ms
        recent = pc.greater_equal(chunk(known.inventory, "timestamp").cast(pa.int64()), since_ms)
        records = int(pc.sum(recent).as_py() or 0)
        kept = self._prepared
        # Time only makes records too old: as many of the same are the same ones.
        if kept is not None and kept.known is known and kept.records == records:
            return kept
        newest = summarise(known.inventory.filter(recent).combine_chunks())
        prepared = _Prepared(known, records, newest, build_labels(newest))
        self._prepared = prepared
        return prepared


def build_labels(gpus: pa.Table, names: tuple[str, ...] = tuple(_LABELS)) -> pa.Array:
    """Write the labels of each GPU, without the braces; one that is not known is left out."""
    pieces: list[Any] = []
    for label in names:
        column = _LABELS[label]
        if column not in gpus.column_names:
            continue
        values = chunk(gpus, column)
        if column == "uuid":
            values = _board_uuids(gpus)
        start = f'{"," if pieces else ""}{label}="'
        written = pc.binary_join_element_wise(start, _escape(values), '"', "")
        pieces.append(pc.fill_null(written, ""))
    return pc.binary_join_element_wise(*pieces, "")


def _board_uuids(gpus: pa.Table) -> pa.Array:
    """Take `:gi-N` off MIG instances: dcgm-exporter tells them apart by GPU_I_ID."""
    uuids = chunk(gpus, "uuid")
    if "gpu_instance_id" not in gpus.column_names:
        return uuids
    ours = pc.binary_join_element_wise(":gi-", chunk(gpus, "gpu_instance_id"), "")
    board = pc.replace_substring_regex(uuids, ":gi-[^:]*$", "")
    is_instance = pc.fill_null(pc.equal(pc.binary_join_element_wise(board, ours, ""), uuids), False)  # noqa: FBT003
    return pc.if_else(is_instance, board, uuids)


def _escape(values: pa.Array) -> pa.Array:
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        if pc.any(pc.match_substring(values, plain)).as_py():
            values = pc.replace_substring(values, plain, written)
    return values


def render_field(name: str, values: pa.Array, labels: pa.Array) -> bytes:
    """Write one metric of all GPUs, under DCGM's name and in DCGM's unit where it has one."""
    field, dcgm = FIELDS.get(name), find_dcgm_name(name)
    # A field may be called as a metric of our own is: one name must not be two metrics.
    own = _OWN_PREFIX + (f"{name}_" if name.startswith(_TAKEN) else name)
    metric, factor = dcgm or (own, 1.0)
    if factor != 1:
        scaled = pc.multiply(values, 1 / factor)
        whole = pc.round(scaled)
        # 1234.567 J are 1234567 mJ, and not a little less.
        values = pc.if_else(pc.less(pc.abs(pc.subtract(scaled, whole)), 1e-3), whole, scaled)
    text = name if field is None else field.description
    if field is not None and field.unit:
        text += f" (in {'' if factor == 1 else f'{factor} '}{field.unit})"
    return _render(metric, text, "counter" if name in COUNTERS else "gauge", values, labels)


def _render_last_seen(summary: pa.Table) -> bytes:
    seconds = pc.divide(chunk(summary, LAST_MS).cast(pa.float64()), 1000.0)
    text = "time of the newest record of the GPU, active or stale"
    return _render(LAST_SEEN, text, "gauge", seconds, build_labels(summary, _IDENTITY))


def _render(metric: str, text: str, kind: str, values: pa.Array, labels: pa.Array) -> bytes:
    if values.null_count:
        labels, values = labels.filter(pc.is_valid(values)), values.drop_null()
    if not len(values):
        return b""
    lines = pc.binary_join_element_wise(f"{metric}{{", labels, "} ", values.cast(pa.string()), "")
    every = pa.LargeListArray.from_arrays([0, len(lines)], lines)
    head = f"# HELP {metric} {text}\n# TYPE {metric} {kind}\n"
    return head.encode() + bytes(pc.binary_join(every, "\n")[0].as_buffer()) + b"\n"
