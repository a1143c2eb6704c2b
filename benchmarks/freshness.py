"""Part 3: how soon small uploads are queryable at 10,000 rows/s, and what queries take meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import orjson

from benchmarks import load, pipeline
from benchmarks.content import count_records
from benchmarks.figures import Aim, Section, divide, format_ms, percentile
from benchmarks.load import Load, Outcome
from benchmarks.pipeline import Pipeline
from benchmarks.processes import difference, wait_until
from benchmarks.run import Run

_WARM_UP_S = 3.0
_DRAIN_TIMEOUT_S = 180.0
_CALIBRATION_POLLS = 300
_SHOWN = 5

INCLUDES = f"""\
- {load.UPLOADS_PER_S} uploads a second of {load.ROWS_PER_UPLOAD} rows ({load.GPUS:,} GPUs, each once a
  second), open loop, after {_WARM_UP_S:g} s of the same to warm up; the client shares the cores.
- Answered: from the moment an upload was due to its answer, which comes when its rows are fsynced.
- Queryable: from that answer until GET /api/v1/uploads/{{id}} has said `stored`, for one upload in
  {load.WATCHED}, polled every 2.5 ms: too long by up to a poll, never too short. Every query checks that
  what was said to be stored before it is in its answer.
- Query: the last five minutes of one GPU, about twice a second, during the load; JSON read to its end.
- `status` counts the queue once a second at most, so that line is exact to a second only.
- At the end every accepted row is counted, and one GPU's records are compared by their times.
"""


def measure(run: Run) -> tuple[Section, dict[str, int]]:
    """Measure part 3; returns peak memory by service too."""
    rate = load.UPLOADS_PER_S * load.ROWS_PER_UPLOAD
    section = Section(
        f"Freshness: {rate:,} rows/s in uploads of {load.ROWS_PER_UPLOAD}", INCLUDES, ("pipeline", "", "")
    )
    with pipeline.running(run.new_dir("freshness")) as up:
        bodies = load.build_bodies()
        return section, asyncio.run(_measure(run, up, bodies, section))


async def _measure(run: Run, up: Pipeline, bodies: list[list[bytes]], section: Section) -> dict[str, int]:
    work = Load(up.ports["upload"], up.ports["query"], bodies)
    with run.progress() as progress:
        task = progress.add_task("load", total=int(_WARM_UP_S + run.seconds))
        ticking = asyncio.create_task(_each_second(lambda: progress.advance(task)))
        warm_up = await work.run(_WARM_UP_S)
        before = up.read_cpu_s()
        out = await work.run(run.seconds)
        cpu = difference(up.read_cpu_s(), before)
        ticking.cancel()
    drained_s = _drain(up)
    peaks = up.read_peak_bytes()
    await work.close()
    poll_s = _poll_cost_s(up, work)
    section.figures = {
        "outcome": vars(out) | {"failures": out.failures[:20]},
        "cpu_s": cpu,
        "drained_s": drained_s,
        "poll_cost_s": poll_s,
    }
    _fill(section, out, cpu, drained_s, poll_s)
    section.lost += _iter_lost(up, work, (warm_up, out))
    return peaks


async def _each_second(do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(1)
        do()


def _drain(up: Pipeline) -> float:
    """Wait until the queue is empty; returns how long that took."""
    began = time.perf_counter()
    wait_until(
        lambda: not up.status()["queue"]["depth"], _DRAIN_TIMEOUT_S, "the queue is empty", every_s=0.25
    )
    return time.perf_counter() - began


def _poll_cost_s(up: Pipeline, work: Load) -> float:
    """Measure what one poll of an upload costs the pipeline, in CPU seconds, while nothing else happens."""
    before = sum(up.read_cpu_s().values())
    for _ in range(_CALIBRATION_POLLS):
        up.upload.get(f"/api/v1/uploads/{work.last_upload}")
    return (sum(up.read_cpu_s().values()) - before) / _CALIBRATION_POLLS


def _iter_lost(up: Pipeline, work: Load, outcomes: Sequence[Outcome]) -> list[str]:
    lost = []
    accepted = sum(out.accepted_rows for out in outcomes)
    unsure = (
        sum("not answered" in failure for out in outcomes for failure in out.failures) * load.ROWS_PER_UPLOAD
    )
    found = count_records(up.query, 2 * (accepted + unsure) + 1)
    if not accepted <= found <= accepted + unsure:
        lost.append(f"{accepted} rows were accepted, {found} are answered")
    answered = orjson.loads(up.query.get_bytes(f"/api/v1/gpus/{work.uuid}/telemetry"))["data"]
    there = {record["timestamp"] for record in answered}
    gone = [s for ms in work.asked_gpu_ms if (s := load.answered_stamp(ms)) not in there]
    if gone:
        lost.append(f"{len(gone)} records of {work.uuid} are not answered, the first of {gone[0]}")
    hidden = [s for out in outcomes for s in out.invisible]
    if hidden:
        lost.append(f"{len(hidden)} records were stored and not answered at once, such as {hidden[0]}")
    dead = up.status()["queue"]["dead"]
    if dead:
        lost.append(f"{dead} messages became dead letters")
    return lost


def _fill(section: Section, out: Outcome, cpu: dict[str, float], drained_s: float, poll_s: float) -> None:
    answered = len(out.due_to_answer)
    section.add("uploads sent, answered 200, failed", f"{out.sent:,}, {answered:,}, {out.sent - answered:,}")
    achieved = divide(answered, out.seconds)
    section.add(
        "uploads/s", f"{achieved:.1f}", aim=Aim(f"{load.UPLOADS_PER_S}", achieved > 0.99 * load.UPLOADS_PER_S)
    )
    for what, values, aims in (
        ("due to answered", out.due_to_answer, {}),
        ("answered to queryable", out.answer_to_queryable, {50: 0.025, 99: 0.1}),
        ("query meanwhile", out.queries, {}),
    ):
        for per_cent, name in ((50, "p50"), (99, "p99"), (100, "max")):
            value = percentile(values, per_cent)
            limit = aims.get(per_cent)
            aim = None if limit is None else Aim(f"below {limit * 1000:g} ms", value < limit)
            section.add(f"{what}, {name}", format_ms(value), aim=aim)
    section.add("until status said that the queue is empty", format_ms(drained_s))
    section.add("CPU in all, cores", f"{sum(cpu.values()) / out.seconds:.2f}")
    for name, used in sorted(cpu.items(), key=lambda item: -item[1]):
        section.add(f"  of that {name}", f"{used / out.seconds:.2f}")
    section.add(
        "  of that polls, about", f"{poll_s * out.polls / out.seconds:.2f} ({out.polls / out.seconds:.0f}/s)"
    )
    section.add("the client's CPU, cores", f"{out.client_cpu_s / out.seconds:.2f}")
    section.add("connections opened", f"{out.connections}")
    for failure in sorted(set(out.failures))[:_SHOWN]:
        section.add("failure", failure)
