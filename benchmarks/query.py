"""Part 4: 1000 records of one GPU as JSON, warm and cold, and again in stores of ten times the size."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import pipeline as pipelines
from benchmarks import victoria as victorias
from benchmarks.content import iter_missing, pick
from benchmarks.figures import Section, at_most, divide, format_ms, format_ratio, median, percentile
from benchmarks.generate import METRICS, STEP_S, Fleet
from benchmarks.pipeline import Pipeline
from benchmarks.processes import BenchmarkFailure
from benchmarks.run import Run
from benchmarks.victoria import Victoria

INCLUDES = """\
- Pipeline: GET /api/v1/gpus/{uuid}/telemetry over a window of 1000 records (8 metrics and the labels in
  each), read to its end. VictoriaMetrics: /api/v1/export of the same GPU's 8 series over the same window.
  Both over a keep-alive connection, in turn, from stores that are folded, or merged.
- Warm: the middle of 50 (of fewer where one takes long), five GPUs in turn, each asked three times before.
  Another GPU: the first request for a GPU that was not asked for before. Cold: query is killed, and once the
  runtime has started it again and /health has answered, its first request; the middle of five.
- Ten times the store: the same fleet's file, made and uploaded in pieces; the query still asks 1000
  records.
"""
RECORDS = 1000
_GPUS = 5
_WARM_UPS = 3
_WARM = 50
_OTHERS = 20
_COLD = 5
#: A series of requests that takes so long ends with fewer: one can take seconds where nothing is folded.
_BUDGET_S = 15.0
_FEWEST = 5
#: Rows of one piece of a large file.
_PIECE_ROWS = 1_000_000

#: Asks for a GPU and returns how many bytes were answered.
Ask = Callable[[int], int]


@dataclass
class Times:
    """Seconds of requests to one store."""

    warm: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    #: Bytes of the last answer's body.
    size: int = 0


@dataclass
class Both:
    """Both sides' times."""

    ours: Times = field(default_factory=Times)
    theirs: Times = field(default_factory=Times)


def measure(run: Run, pipeline: Pipeline, victoria: Victoria | None) -> Section:
    """Measure part 4 on the stores of part 1, which must be folded, and on larger ones."""
    section = Section(f"Query: one GPU, {min(RECORDS, run.fleet.instants):,} records", INCLUDES)
    once = _measure_store(pipeline, victoria, run.fleet)
    section.figures["once"] = _figures(once)
    _fill(section, once)
    return section


def measure_tenfold(run: Run, section: Section) -> None:
    """Add the stores of ten times the size to a section."""
    fleet = run.fleet
    once = section.figures["once"]
    for name, large in (
        ("10x the GPUs", Fleet(fleet.gpus * 10, fleet.instants)),
        ("10x the time", Fleet(fleet.gpus, fleet.instants * 10)),
    ):
        with _filled(run, large, name) as (pipeline, victoria):
            section.lost += iter_missing(pipeline, large, count=False)
            if victoria is not None:
                victoria.merge()
            both = _measure_store(pipeline, victoria, large)
        section.figures[name] = _figures(both)
        _fill_tenfold(section, name, both, once)


@contextlib.contextmanager
def _filled(run: Run, fleet: Fleet, name: str) -> Iterator[tuple[Pipeline, Victoria | None]]:
    """Run both sides with a large fleet's file, uploaded in pieces that are never on disk, and folded."""
    with contextlib.ExitStack() as stack, run.progress() as progress:
        pipeline = stack.enter_context(pipelines.running(run.new_dir("large")))
        victoria = None
        if run.victoria is not None:
            victoria = stack.enter_context(victorias.running(run.victoria, run.new_dir("large-victoria")))
        step = max(1, min(_PIECE_ROWS, fleet.rows) // fleet.gpus)
        task = progress.add_task(f"{name}: {fleet.rows:,} rows", total=-(-fleet.instants // step))
        for first in range(0, fleet.instants, step):
            piece = b"".join(fleet.iter_csv(first, step))
            pipeline.wait_stored(pipeline.post(io.BytesIO(piece), len(piece)))
            if victoria is not None:
                victoria.post(io.BytesIO(piece), len(piece))
            progress.advance(task)
        pipeline.settle()
        progress.stop()
        yield pipeline, victoria


def _measure_store(pipeline: Pipeline, victoria: Victoria | None, fleet: Fleet) -> Both:
    both = Both()
    start_ms = fleet.start_ms + max(fleet.instants - RECORDS, 0) // 2 * STEP_S * 1000
    end_ms = start_ms + RECORDS * STEP_S * 1000

    def ask_ours(gpu: int) -> int:
        path = pipeline.telemetry_path(fleet.uuids[gpu], start_ms, end_ms)
        return _check(pipeline.query.get_bytes(path), fleet)

    sides: list[tuple[Ask, Times]] = [(ask_ours, both.ours)]
    if victoria is not None:
        theirs = victoria
        sides.append((lambda gpu: _ask_victoria(theirs, fleet.uuids[gpu], start_ms, end_ms), both.theirs))
    _measure_warm(sides, pick(fleet, _GPUS))
    others = [gpu for gpu in pick(fleet, _GPUS + _OTHERS + 1) if gpu not in pick(fleet, _GPUS)]
    for gpu in _while_there_is_time(others[:_OTHERS]):
        for ask, times in sides:
            times.other.append(_timed(ask, gpu))
    for number in range(_COLD):
        pipeline.restart_query()
        pipeline.query.get("/health")
        both.ours.cold.append(_timed(ask_ours, pick(fleet, _COLD)[number % min(_COLD, fleet.gpus)]))
    return both


def _measure_warm(sides: list[tuple[Ask, Times]], gpus: list[int]) -> None:
    for ask, times in sides:
        for gpu in _while_there_is_time(gpus * _WARM_UPS):
            times.size = ask(gpu)
    for gpu in _while_there_is_time(gpus * (_WARM // len(gpus))):
        for ask, times in sides:
            times.warm.append(_timed(ask, gpu))


def _while_there_is_time(gpus: Sequence[int]) -> Iterator[int]:
    """Give GPUs one after the other until the budget is used up, but at least the fewest."""
    began = time.monotonic()
    for number, gpu in enumerate(gpus):
        if number >= _FEWEST and time.monotonic() - began > _BUDGET_S:
            return
        yield gpu


def _timed(ask: Ask, gpu: int) -> float:
    began = time.perf_counter()
    ask(gpu)
    return time.perf_counter() - began


def _check(answer: bytes, fleet: Fleet) -> int:
    wanted = min(RECORDS, fleet.instants)
    if b'"count":%d,' % wanted not in answer[-200:]:
        raise BenchmarkFailure(f"a query did not answer {wanted} records: it ends with {answer[-60:]!r}")
    return len(answer)


def _ask_victoria(victoria: Victoria, uuid: str, start_ms: int, end_ms: int) -> int:
    answer = victoria.http.get_bytes(victoria.export_path(uuid, start_ms, end_ms))
    if answer.count(b"\n") != len(METRICS):
        raise BenchmarkFailure(f"VictoriaMetrics did not answer {len(METRICS)} series of {uuid}")
    return len(answer)


def _figures(both: Both) -> dict[str, dict[str, float]]:
    return {
        side: {name: median(values) for name, values in vars(times).items() if values and name != "size"}
        for side, times in (("pipeline", both.ours), ("victoria_metrics", both.theirs))
    }


def _fill(section: Section, both: Both) -> None:
    ours, theirs = both.ours, both.theirs
    for what, mine, others, limit in (
        ("warm, p50", ours.warm, theirs.warm, 1.0),
        ("another GPU, p50", ours.other, theirs.other, None),
        ("cold, p50 (beside warm)", ours.cold, theirs.warm, 3.0),
    ):
        ratio = divide(median(mine), median(others)) if others else 0.0
        aim = at_most(ratio, limit) if others and limit else None
        section.add(
            what,
            format_ms(median(mine)),
            format_ms(median(others)) if others else "",
            format_ratio(ratio) if others else "",
            aim,
        )
    theirs_p95 = format_ms(percentile(theirs.warm, 95)) if theirs.warm else ""
    section.add("warm, p95", format_ms(percentile(ours.warm, 95)), theirs_p95)
    section.add("bytes of the answer", f"{ours.size:,}", f"{theirs.size:,}" if theirs.size else "")


def _fill_tenfold(section: Section, name: str, both: Both, once: dict[str, dict[str, float]]) -> None:
    now = _figures(both)
    for what in ("warm", "other", "cold"):
        theirs = now["victoria_metrics"].get(what)
        section.add(
            f"{name}: {what}",
            format_ms(now["pipeline"][what]),
            format_ms(theirs) if theirs else "",
            format_ratio(now["pipeline"][what] / theirs) if theirs else "",
        )
        growth = now["pipeline"][what] / once["pipeline"][what]
        section.add(
            "  beside its own of 1x",
            format_ratio(growth),
            format_ratio(theirs / once["victoria_metrics"][what]) if theirs else "",
            "",
            at_most(growth, 1.3) if what == "warm" else None,
        )
