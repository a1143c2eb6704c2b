"""Part 6: what dashboards ask for again and again: GPUs, newest values, one GPU over an hour, the fleet."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import pipeline as pipelines
from benchmarks.client import Http
from benchmarks.figures import Section, at_most, format_ms, median, percentile
from benchmarks.generate import Fleet
from benchmarks.pipeline import Pipeline, format_time
from benchmarks.run import Run

INCLUDES = """\
- Each over a keep-alive connection, read to its end; the client, on the same cores, does not parse it.
- Warm: asked five times before, then up to 100 times one after the other (fewer where one takes long).
  Changed: warm, but before each request a hundred rows were uploaded and stored. Requests/s: eight
  connections at once for 5 s. Cold: query is killed, and once the runtime has started it again and /health
  has answered, its first request; the middle of three.
- 1000 GPUs: an hour, a record each 10 s, 360,000 rows. 10,000 GPUs: a minute. 1000 GPUs each second: an
  hour, 3,600,000 rows; one GPU's hour there is 3600 records, each time another one's where it says so. All
  folded; windows are given by their times, so that history answers like the present.
"""
_WARM_UPS, _WARM, _CHANGES, _COLD = 5, 100, 20, 3
_BUDGET_S = 10.0
_FEWEST = 5
_CONNECTIONS, _LOAD_S = 8, 5.0
_HOUR_S = 3600
_PIECE_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what its warm middle is to stay below, in seconds."""

    name: str
    path: str
    at_most_s: float | None = None


def measure(run: Run, *, quick: bool) -> Section:
    """Measure part 6 on stores of its own."""
    columns = ("warm, p50", "warm, p99", "changed, p50")
    section = Section("Answers", INCLUDES, columns)
    hour = Fleet(1000, _HOUR_S // 10)
    _measure_store(run, section, hour, [
        Question("1000 GPUs: gpus", "/api/v1/gpus", 0.010),
        Question("1000 GPUs: newest values", "/api/v1/telemetry/latest"),
        Question("1000 GPUs, 1 h: fleet summary", _summary_path(hour), 1.0),
    ])  # fmt: skip
    many = Fleet(10_000, 6)
    _measure_store(run, section, many, [
        Question("10,000 GPUs: gpus", "/api/v1/gpus", 0.010),
        Question("10,000 GPUs: newest values", "/api/v1/telemetry/latest"),
    ])  # fmt: skip
    if not quick:
        dense = Fleet(1000, _HOUR_S, step_s=1)
        one = f"/api/v1/gpus/{dense.uuids[500]}/telemetry{_window(dense)}"
        _measure_store(run, section, dense, [
            Question("1000 GPUs each second: one GPU, 1 h", one),
            Question("  the same, a mean a minute", f"{one}&step=60s&agg=avg"),
            Question("  fleet summary, 1 h", _summary_path(dense)),
        ])  # fmt: skip
    return section


def _window(fleet: Fleet) -> str:
    return f"?start_time={format_time(fleet.start_ms)}&end_time={format_time(fleet.end_ms)}"


def _summary_path(fleet: Fleet) -> str:
    return f"/api/v1/fleet/summary{_window(fleet)}"


def _measure_store(run: Run, section: Section, fleet: Fleet, questions: list[Question]) -> None:
    run.say(f"answers: {fleet.gpus:,} GPUs, {fleet.rows:,} rows")
    with _filled(run, fleet) as pipeline:
        for question in questions:
            _measure_question(section, pipeline, fleet, question)


@contextlib.contextmanager
def _filled(run: Run, fleet: Fleet) -> Iterator[Pipeline]:
    with pipelines.running(run.new_dir("answers")) as pipeline:
        step = max(1, _PIECE_ROWS // fleet.gpus)
        for first in range(0, fleet.instants, step):
            _upload(pipeline, b"".join(fleet.iter_csv(first, step)))
        pipeline.settle()
        yield pipeline


def _upload(pipeline: Pipeline, csv: bytes) -> None:
    pipeline.wait_stored(pipeline.post(io.BytesIO(csv), len(csv)))


def _measure_question(section: Section, pipeline: Pipeline, fleet: Fleet, question: Question) -> None:
    for _ in range(_WARM_UPS):
        size = len(pipeline.query.get_bytes(question.path))
    warm = [_timed(pipeline, question.path) for _ in _while_there_is_time(_WARM)]
    per_second = _load(pipeline.query.port, question.path)
    # The same hundred rows again and again: the answer stays what it is, but must be made anew.
    rows = b"".join(Fleet(min(fleet.gpus, 100), 1, fleet.start_ms).iter_csv())
    changed = []
    for _ in _while_there_is_time(_CHANGES):
        _upload(pipeline, rows)
        changed.append(_timed(pipeline, question.path))
    cold = []
    for _ in range(_COLD):
        pipeline.restart_query()
        pipeline.query.get("/health")
        cold.append(_timed(pipeline, question.path))
    aim = question.at_most_s
    section.add(
        question.name,
        format_ms(median(warm)),
        format_ms(percentile(warm, 99)),
        format_ms(median(changed)),
        None if aim is None else at_most(round(median(warm) * 1000, 2), aim * 1000, " ms"),
    )
    section.add("  cold; requests/s; bytes", format_ms(median(cold)), f"{per_second:,.0f}/s", f"{size:,}")
    section.figures[question.name.strip()] = {
        "warm": median(warm),
        "warm_p99": percentile(warm, 99),
        "changed": median(changed),
        "cold": median(cold),
        "requests_per_s": per_second,
        "bytes": size,
    }


def _timed(pipeline: Pipeline, path: str) -> float:
    began = time.perf_counter()
    pipeline.query.get_bytes(path)
    return time.perf_counter() - began


def _while_there_is_time(most: int) -> Iterator[None]:
    began = time.monotonic()
    for number in range(most):
        if number >= _FEWEST and time.monotonic() - began > _BUDGET_S:
            return
        yield


def _load(port: int, path: str) -> float:
    """Ask over several connections at once; returns answers a second."""
    until = time.monotonic() + _LOAD_S
    answered = [0] * _CONNECTIONS

    def ask(place: int) -> None:
        http = Http(port)
        while time.monotonic() < until:
            http.get_bytes(path)
            answered[place] += 1
        http.close()

    began = time.monotonic()
    threads = [threading.Thread(target=ask, args=(place,)) for place in range(_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answered) / (time.monotonic() - began)
