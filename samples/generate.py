"""Makes telemetry of a small fleet: two hosts with eight GPUs each, the same every time.

    python samples/generate.py --end 2024-01-15T10:39:50Z --minutes 10 --output samples/two_hosts.csv
    python samples/generate.py --end now --output hour.csv

GPUs 0 to 3 of a host are busy; 4 is half busy; 5 and 6 are idle, and 5 of gpu-node-01 holds 60 GiB all the
same; 7 is busy on gpu-node-01, and on gpu-node-02 it falls off the bus (XID 79) and stops being reported
half-way: the missing GPU. GPU 2 of gpu-node-01 is held back by its power cap, and GPU 3 of gpu-node-02 says
that it is busy while its SMs do next to nothing.
"""

from __future__ import annotations

import csv
import math
import random
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from shared import clock

HOSTS = ("gpu-node-01", "gpu-node-02")
GPUS_PER_HOST = 8
#: The GPU that disappears, and the idle one that holds memory.
MISSING = ("gpu-node-02", 7)
HOARDER = ("gpu-node-01", 5)
#: The one whose power is capped at the top of its wave, and the one that is busy but empty.
CAPPED = ("gpu-node-01", 2)
EMPTY = ("gpu-node-02", 3)

HEADER = (
    "timestamp", "gpu_id", "hostname", "uuid", "device", "modelname", "gpu_utilization", "memory_utilization",
    "memory_used_mb", "memory_free_mb", "temperature", "power_draw", "sm_clock_mhz", "memory_clock_mhz",
    "sm_active", "throttle_reasons", "xid_error",
)  # fmt: skip
_MODEL = "NVIDIA H100 80GB HBM3"
#: 80 GiB less what the driver keeps.
_MEMORY_MB = 81079
_BUSY, _HALF, _IDLE = 92.0, 45.0, 0.0
_LOAD = (_BUSY, _BUSY, _BUSY, _BUSY, _HALF, _IDLE, _IDLE, _BUSY)
#: DCGM's bits: idle, and the software power cap. XID 79: the GPU has fallen off the bus.
_REASON_IDLE, _REASON_POWER_CAP, _OFF_THE_BUS = 1, 4, 79
#: A training step every so many seconds shows as a wave.
_WAVE_S = 240.0


def build_row(
    host: str, gpu: int, at: datetime, age_s: float, noise: random.Random, *, falls: bool
) -> tuple[object, ...]:
    """Build the row of one GPU at one instant.

    Args:
        host: One of HOSTS.
        gpu: Its number on the host.
        at: The time of the row.
        age_s: Seconds since the first row: the same wave whatever the dates are.
        noise: Where what looks like chance comes from.
        falls: Whether this is the last that is heard of it.
    """
    mean = _LOAD[gpu]
    wave = math.sin(2 * math.pi * (age_s / _WAVE_S + gpu / GPUS_PER_HOST))
    load = 0.0 if mean == _IDLE else min(100.0, max(1.0, mean + 6 * wave + noise.gauss(0, 2)))
    holds = (host, gpu) == HOARDER
    capped = (host, gpu) == CAPPED and wave > 0
    reasons = _REASON_IDLE if load == 0 else _REASON_POWER_CAP if capped else 0
    used = 61440 if holds else 4 if load == 0 else int(52000 + 180 * mean + noise.randrange(64))
    return (
        at.isoformat().replace("+00:00", "Z"),
        gpu,
        host,
        f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{gpu}.{host}.example')}",
        f"nvidia{gpu}",
        _MODEL,
        round(load, 1),
        round(load * 0.62, 1),
        used,
        _MEMORY_MB - used,
        round(31 + 0.37 * load + noise.gauss(0, 0.5), 1),
        round(72 + 5.9 * load + noise.gauss(0, 4), 1),
        345 if load == 0 else 1605 if capped else 1980,
        2619,
        round(load * (0.0009 if (host, gpu) == EMPTY else 0.0083), 3),
        reasons,
        _OFF_THE_BUS if falls else 0,
    )


def iter_rows(end: datetime, *, minutes: int, step_s: int) -> Iterator[tuple[object, ...]]:
    """Make the rows of all GPUs, ordered by time, up to and including `end`."""
    noise = random.Random(20240115)
    steps = minutes * 60 // step_s
    for step in range(steps):
        at = end - timedelta(seconds=(steps - 1 - step) * step_s)
        for host in HOSTS:
            for gpu in range(GPUS_PER_HOST):
                missing = (host, gpu) == MISSING
                falls = missing and step == steps // 2 - 1
                row = build_row(host, gpu, at, step * step_s, noise, falls=falls)
                if not missing or step < steps // 2:
                    yield row


def _parse_end(text: str) -> datetime:
    if text == "now":
        return datetime.fromtimestamp(int(clock.now_s()), UTC)
    try:
        end = datetime.fromisoformat(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is neither now nor a time such as 2024-01-15T10:39:50Z") from exc
    return end.astimezone(UTC) if end.tzinfo else end.replace(tzinfo=UTC)


@click.command()
@click.option("--end", default="2024-01-15T10:39:50Z", show_default=True, help="The last instant, or now.")
@click.option("--minutes", default=60, show_default=True, type=click.IntRange(min=1))
@click.option("--step", "step_s", default=10, show_default=True, type=click.IntRange(min=1), help="Seconds.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Standard output without it.")
def main(end: str, minutes: int, step_s: int, output: Path | None) -> None:
    """Make telemetry of two hosts with eight GPUs each, as CSV."""
    rows = iter_rows(_parse_end(end), minutes=minutes, step_s=step_s)
    with output.open("w", newline="") if output else sys.stdout as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
