"""`python -m benchmarks`: which parts, how large, and where the results go."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from benchmarks import answers, coldstart, freshness, ingest, memory, query, report, size
from benchmarks.figures import Section
from benchmarks.ingest import Ingested
from benchmarks.machine import describe_machine
from benchmarks.processes import BenchmarkFailure
from benchmarks.run import Run

PARTS = ("ingest", "size", "freshness", "query", "answers", "memory", "coldstart")
#: Parts that need the stores of part 1.
_STORED = {"ingest", "size", "query", "memory"}
_DEFAULT_ROWS, _QUICK_ROWS = 1_000_000, 100_000
_DEFAULT_SECONDS, _QUICK_SECONDS = 30.0, 10.0
_DEFAULT_RUNS = 3


@click.command()
@click.argument("parts", nargs=-1, required=True, type=click.Choice([*PARTS, "all"]))
@click.option("--rows", type=click.IntRange(min=1000), help="Rows of the file. [default: 1,000,000]")
@click.option("--runs", type=click.IntRange(min=1), help="Runs of part ingest, per side. [default: 3]")
@click.option(
    "--seconds", type=click.FloatRange(min=1), help="Seconds of load in part freshness. [default: 30]"
)
@click.option(
    "--quick",
    is_flag=True,
    help="Small: 100,000 rows, one run, 10 s of load, few cold starts, no store of ten times the size.",
)
@click.option(
    "--tenfold/--no-tenfold",
    default=None,
    help="Query stores of ten times the size. [default: unless --quick]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; what happens goes to standard error.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Rewrite this document's results."
)
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".local/benchmarks"),
    show_default=True,
    help="Where files and stores are for as long as it runs: on the disk to be measured.",
)
def main(
    *,
    parts: tuple[str, ...],
    rows: int | None,
    runs: int | None,
    seconds: float | None,
    quick: bool,
    tenfold: bool | None,
    as_json: bool,
    output: Path | None,
    work_dir: Path,
) -> None:
    """Measure PARTS of the pipeline, or all of them, beside VictoriaMetrics where it does the same.

    The exit status is 1 where rows were lost or something does not work; a missed aim is only said.
    """
    run = Run(
        rows=rows or (_QUICK_ROWS if quick else _DEFAULT_ROWS),
        runs=runs or (1 if quick else _DEFAULT_RUNS),
        seconds=seconds or (_QUICK_SECONDS if quick else _DEFAULT_SECONDS),
        tenfold=not quick if tenfold is None else tenfold,
        work_dir=_make_folder(work_dir),
        console=Console(stderr=as_json),
    )
    if run.victoria is None:
        run.say("victoria-metrics is not installed: the pipeline is measured alone")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sections: list[Section] = []
    try:
        asked = set(PARTS) if "all" in parts else set(parts)
        _measure(run, asked, sections)
        if "coldstart" in asked:
            run.say("cold starts, in turn with those of a bare hello")
            sections.append(coldstart.measure(run, quick=not run.tenfold))
    except BenchmarkFailure as exc:
        # What was measured before is worth seeing; a document is not rewritten with half of it.
        _tell(run, sections, as_json=as_json, output=None)
        sys.exit(f"benchmarks: {exc}")
    finally:
        shutil.rmtree(run.work_dir, ignore_errors=True)
    _tell(run, sections, as_json=as_json, output=output)
    if any(section.lost for section in sections):
        sys.exit(1)


def _make_folder(work_dir: Path) -> Path:
    """Make a folder of this run's own; absolute, for the pipeline runs elsewhere."""
    work_dir.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="run-", dir=work_dir.absolute()))


def _tell(run: Run, sections: list[Section], *, as_json: bool, output: Path | None) -> None:
    machine, at = describe_machine(run.victoria), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if as_json:
        click.echo(report.to_json(machine, at, sections))
    else:
        report.print_sections(run.console, sections)
    if output is not None:
        report.write_document(output, report.to_markdown(machine, at, sections))
        run.say(f"written: {output}")


def _measure(run: Run, parts: set[str], sections: list[Section]) -> None:
    """Run the parts in the order of their numbers; one that was not asked for runs where another needs it."""
    kept, loaded, queries = None, None, None
    if parts & _STORED:
        with _ingested(run, only_stored="ingest" not in parts) as done:
            kept = done.kept
            if "ingest" in parts:
                sections.append(done.section)
            if parts & {"size", "query"}:
                run.say("folding and merging what was stored")
                sized = size.measure(run, done)
                sections += [sized] if "size" in parts else []
            if "query" in parts:
                run.say("querying")
                queries = query.measure(run, done.pipeline, done.victoria)
    if parts & {"freshness", "memory"}:
        run.say(f"load: {run.seconds:g} s of small uploads")
        fresh, loaded = freshness.measure(run)
        sections += [fresh] if "freshness" in parts else []
    if queries is not None:
        sections.append(queries)
        if run.tenfold:
            run.say("stores of ten times the size")
            query.measure_tenfold(run, queries)
    if "answers" in parts:
        sections.append(answers.measure(run, quick=not run.tenfold))
    if "memory" in parts:
        sections.append(memory.report(kept, loaded))


@contextlib.contextmanager
def _ingested(run: Run, *, only_stored: bool) -> Iterator[Ingested]:
    run.say(f"making a file of {run.fleet.rows:,} rows")
    csv = run.work_dir / "fleet.csv"
    run.fleet.write(csv)
    run.say("ingesting it" + (", pipeline and VictoriaMetrics in turn" if run.victoria else ""))
    if only_stored:
        run.runs = 1
    with ingest.ingested(run, csv) as done:
        yield done


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
