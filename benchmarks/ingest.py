"""Part 1: from the POST of one file until all its rows are queryable, in turn with VictoriaMetrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import pipeline as pipelines
from benchmarks import victoria as victorias
from benchmarks.content import iter_missing, iter_missing_samples
from benchmarks.database import Stored, read_stored
from benchmarks.figures import Section, at_least, at_most, divide, format_ratio, format_spread, median
from benchmarks.pipeline import Pipeline
from benchmarks.processes import difference
from benchmarks.run import Run
from benchmarks.victoria import Victoria

INCLUDES = """\
- Both get the same file from the same client (http.client, blocks of 1 MiB), in turn, each in a process
  just started on an empty folder; the middle of the runs, their range in brackets.
- Seconds run from the first byte of the POST. For the pipeline they end when GET /api/v1/uploads/{id} says
  `stored`: every row is fsynced in etcd and in the store that queries read. For VictoriaMetrics they end
  when /internal/force_flush has returned; a count of all samples that follows, and would lengthen its time,
  is left out.
- CPU seconds are user and system time of every process of each side over that span (for the pipeline:
  runtime, functions, queue source and etcd); the client's are not in it.
- Afterwards the rows are counted and some GPUs are compared with the file record by record, on both sides.
"""


@dataclass
class Measured:
    """One side's runs."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    cpu_by_name: list[dict[str, float]] = field(default_factory=list)
    client_cpu_s: list[float] = field(default_factory=list)
    #: VictoriaMetrics only: with the count of all samples.
    counted_seconds: list[float] = field(default_factory=list)


@dataclass
class Kept:
    """What was read of the pipeline beside its times."""

    #: etcd's database before the POST.
    empty: Stored
    #: Peak memory by service: when the file was stored, and after all of it had been read back.
    stored_peaks: dict[str, int]
    read_peaks: dict[str, int]
    victoria_peaks: tuple[int, int] = (0, 0)


@dataclass
class Ingested:
    """What part 1 leaves for the other parts: both stores with the file in them, still running."""

    section: Section
    pipeline: Pipeline
    victoria: Victoria | None
    kept: Kept


@contextlib.contextmanager
def ingested(run: Run, csv: Path) -> Iterator[Ingested]:
    """Measure part 1; both sides of the last run go on running for the length of a `with` block."""
    ours, theirs = Measured(), Measured()
    section = Section(f"Ingest: {run.fleet.rows:,} rows, {csv.stat().st_size / 1e6:.1f} MB", INCLUDES)
    with contextlib.ExitStack() as stack, run.progress() as progress:
        task = progress.add_task("ingest", total=run.runs * (2 if run.victoria else 1))
        for number in range(run.runs):
            last = number == run.runs - 1
            keep = stack if last else None
            pipeline, kept = _measure_pipeline(run, csv, ours, section, keep)
            progress.advance(task)
            victoria = None
            if run.victoria is not None:
                victoria, kept.victoria_peaks = _measure_victoria(
                    run, run.victoria, csv, theirs, section, keep
                )
                progress.advance(task)
        progress.stop()
        _fill(section, run, ours, theirs)
        yield Ingested(section, pipeline, victoria, kept)


def measure(run: Run, csv: Path) -> Section:
    """Measure part 1 alone."""
    with ingested(run, csv) as done:
        return done.section


def _measure_pipeline(
    run: Run, csv: Path, into: Measured, section: Section, keep: contextlib.ExitStack | None
) -> tuple[Pipeline, Kept]:
    with contextlib.ExitStack() as own:
        pipeline = (keep or own).enter_context(pipelines.running(run.new_dir("pipeline")))
        empty = read_stored(pipeline.etcd())
        before, client_before = pipeline.read_cpu_s(), time.process_time()
        began = time.perf_counter()
        with csv.open("rb", buffering=0) as file:
            upload = pipeline.post(file, csv.stat().st_size)
        pipeline.wait_stored(upload)
        into.seconds.append(time.perf_counter() - began)
        into.client_cpu_s.append(time.process_time() - client_before)
        _take_cpu(into, difference(pipeline.read_cpu_s(), before))
        stored_peaks = pipeline.read_peak_bytes()
        section.lost += iter_missing(pipeline, run.fleet)
        return pipeline, Kept(empty, stored_peaks, pipeline.read_peak_bytes())


def _measure_victoria(
    run: Run, program: str, csv: Path, into: Measured, section: Section, keep: contextlib.ExitStack | None
) -> tuple[Victoria, tuple[int, int]]:
    with contextlib.ExitStack() as own:
        victoria = (keep or own).enter_context(victorias.running(program, run.new_dir("victoria")))
        fleet = run.fleet
        before, client_before = victoria.read_cpu_s(), time.process_time()
        began = time.perf_counter()
        with csv.open("rb", buffering=0) as file:
            victoria.post(file, csv.stat().st_size)
        victoria.flush()
        into.seconds.append(time.perf_counter() - began)
        into.client_cpu_s.append(time.process_time() - client_before)
        _take_cpu(into, difference(victoria.read_cpu_s(), before))
        window_s = (fleet.end_ms - fleet.start_ms) // 1000 + 60
        while (
            victoria.count_samples(fleet.end_ms, window_s) < fleet.samples
            and time.perf_counter() - began < 60
        ):
            time.sleep(0.1)
        into.counted_seconds.append(time.perf_counter() - began)
        stored_peak = sum(victoria.read_peak_bytes().values())
        section.lost += iter_missing_samples(victoria, fleet)
        return victoria, (stored_peak, sum(victoria.read_peak_bytes().values()))


def _take_cpu(into: Measured, used: dict[str, float]) -> None:
    into.cpu_by_name.append(used)
    into.cpu_s.append(sum(used.values()))


def _fill(section: Section, run: Run, ours: Measured, theirs: Measured) -> None:
    rows = run.fleet.rows
    section.figures = {
        "rows": rows,
        "pipeline": vars(ours),
        "victoria_metrics": vars(theirs) if theirs.seconds else None,
    }
    rates = [rows / s for s in ours.seconds]
    if not theirs.seconds:
        section.add("rows/s", format_spread(rates, 0))
        section.add("seconds", format_spread(ours.seconds))
        section.add("CPU seconds", format_spread(ours.cpu_s))
    else:
        their_rates = [rows / s for s in theirs.seconds]
        speed = divide(median(theirs.seconds), median(ours.seconds))
        cpu = divide(median(ours.cpu_s), median(theirs.cpu_s))
        section.figures |= {"speed_ratio": speed, "cpu_ratio": cpu}
        section.add(
            "rows/s",
            format_spread(rates, 0),
            format_spread(their_rates, 0),
            format_ratio(speed),
            at_least(speed, 2.5),
        )
        section.add("seconds", format_spread(ours.seconds), format_spread(theirs.seconds))
        section.add("seconds, with a count of all", "", format_spread(theirs.counted_seconds))
        section.add(
            "CPU seconds",
            format_spread(ours.cpu_s),
            format_spread(theirs.cpu_s),
            format_ratio(cpu),
            at_most(cpu, 0.4),
        )
    for name in sorted(ours.cpu_by_name[0], key=lambda n: -median([c.get(n, 0.0) for c in ours.cpu_by_name])):
        section.add(f"  of that {name}", format_spread([c.get(name, 0.0) for c in ours.cpu_by_name]))
    their_client = format_spread(theirs.client_cpu_s) if theirs.seconds else ""
    section.add("the client's CPU seconds", format_spread(ours.client_cpu_s), their_client)
