"""Whether the rows of a file are all there, by content: their number, and some GPUs record by record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.client import Http
from benchmarks.generate import LABELS, METRICS, Fleet
from benchmarks.pipeline import Pipeline
from benchmarks.victoria import Victoria

#: GPUs whose every record is compared.
_COMPARED = 12
_MARK = b'{"timestamp"'


def pick(fleet: Fleet, count: int) -> list[int]:
    """Pick GPUs spread over the fleet, the first and the last among them."""
    if fleet.gpus <= count:
        return list(range(fleet.gpus))
    return sorted({round(i * (fleet.gpus - 1) / (count - 1)) for i in range(count)})


def count_records(http: Http, limit: int) -> int:
    """Count the records that /api/v1/telemetry streams, by their own bytes and not by what it says."""
    found, tail = 0, b""
    for block in http.stream(f"/api/v1/telemetry?limit={limit}"):
        text = tail + block
        found += text.count(_MARK)
        tail = text[-(len(_MARK) - 1) :]
    return found


def expected_records(fleet: Fleet, gpu: int) -> list[dict[str, Any]]:
    """Make the records of one GPU as the API answers them: numbers as numbers."""
    table = fleet.table(gpus=range(gpu, gpu + 1))
    numbers = {name: pc.cast(table.column(name), pa.float64()) for name in METRICS}
    return list(pa.table({n: table.column(n) for n in ("timestamp", *LABELS)} | numbers).to_pylist())


def iter_missing(pipeline: Pipeline, fleet: Fleet, *, count: bool = True) -> Iterator[str]:
    """Say what the pipeline's store does not hold as the file does; nothing where all is well."""
    if count:
        found = count_records(pipeline.query, 2 * fleet.rows)
        if found != fleet.rows:
            yield f"the file has {fleet.rows} rows, the pipeline answers {found} records"
    for gpu in pick(fleet, _COMPARED):
        uuid = fleet.uuids[gpu]
        path = pipeline.telemetry_path(uuid, fleet.start_ms, fleet.end_ms)
        answered = orjson.loads(pipeline.query.get_bytes(path))["data"]
        yield from _compare(uuid, expected_records(fleet, gpu), answered)


def _compare(
    uuid: str, expected: Sequence[dict[str, Any]], answered: Sequence[dict[str, Any]]
) -> Iterator[str]:
    if len(expected) != len(answered):
        yield f"{uuid}: {len(expected)} records in the file, {len(answered)} answered"
        return
    for wanted, got in zip(expected, answered, strict=True):
        wrong = [name for name, value in wanted.items() if got.get(name) != value]
        if wrong:
            name = wrong[0]
            yield f"{uuid} at {wanted['timestamp']}: {name} is {wanted[name]}, answered was {got.get(name)}"
            return


def iter_missing_samples(victoria: Victoria, fleet: Fleet) -> Iterator[str]:
    """Say what VictoriaMetrics does not hold as the file does."""
    found = victoria.count_samples(fleet.end_ms, (fleet.end_ms - fleet.start_ms) // 1000 + 60)
    if found != fleet.samples:
        yield f"VictoriaMetrics: the file has {fleet.samples} samples, it counts {found}"
    for gpu in pick(fleet, _COMPARED):
        path = victoria.export_path(fleet.uuids[gpu], fleet.start_ms, fleet.end_ms)
        series = {}
        for line in victoria.http.get_bytes(path).splitlines():
            answer = orjson.loads(line)
            series[answer["metric"]["__name__"]] = answer["values"]
        table = fleet.table(gpus=range(gpu, gpu + 1))
        for name in METRICS:
            if pc.cast(table.column(name), pa.float64()).to_pylist() != series.get(name):
                yield f"VictoriaMetrics: {fleet.uuids[gpu]}: {name} is not what the file says"
                break
