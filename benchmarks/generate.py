"""A fleet's telemetry as wide CSV: any size, any piece of it, the same bytes every time.

Values are a closed form of (GPU, instant), so a piece of a large file is made without what comes before
it. They look like a training cluster's: slow waves and a little noise per GPU, integer MiB and MHz, one
decimal for the rest; seven of ten GPUs are busy, three of twenty half busy, three of twenty idle.
"""

from __future__ import annotations

import io
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

LABELS = ("gpu_id", "hostname", "uuid", "device", "modelname")
METRICS = (
    "gpu_utilization", "memory_utilization", "memory_used_mb", "memory_free_mb", "temperature", "power_draw",
    "sm_clock_mhz", "memory_clock_mhz",
)  # fmt: skip
COLUMNS = ("timestamp", *LABELS, *METRICS)

#: 2024-01-15T00:00:00Z: inside one month, which is how VictoriaMetrics partitions.
START_MS = 1_705_276_800_000
STEP_S = 10
GPUS_PER_HOST = 8
#: Rows made at a time, about.
_BLOCK_ROWS = 200_000

_MEMORY_MB = 81_079
_MODEL = "NVIDIA H100 80GB HBM3"
_NOISE_LENGTH = 1 << 16
#: Of twenty GPUs, how many are busy and how many half busy; the others are idle.
_BUSY, _HALF = 14, 3


@dataclass(frozen=True)
class Fleet:
    """So many GPUs, each with a record every `step_s` seconds, so many times."""

    gpus: int
    instants: int
    start_ms: int = START_MS
    step_s: int = STEP_S

    @property
    def rows(self) -> int:
        """How many records there are."""
        return self.gpus * self.instants

    @property
    def samples(self) -> int:
        """How many single values there are."""
        return self.rows * len(METRICS)

    @property
    def end_ms(self) -> int:
        """The first instant after the last one."""
        return self.start_ms + self.instants * self.step_s * 1000

    @cached_property
    def hostnames(self) -> list[str]:
        """The host of each GPU."""
        return [f"gpu-node-{gpu // GPUS_PER_HOST:04d}" for gpu in range(self.gpus)]

    @cached_property
    def uuids(self) -> list[str]:
        """The uuid of each GPU."""
        return [
            f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{gpu % GPUS_PER_HOST}.{host}.example')}"
            for gpu, host in enumerate(self.hostnames)
        ]

    @cached_property
    def _labels(self) -> pa.Table:
        local = [gpu % GPUS_PER_HOST for gpu in range(self.gpus)]
        return pa.table({
            "gpu_id": [str(n) for n in local],
            "hostname": self.hostnames,
            "uuid": self.uuids,
            "device": [f"nvidia{n}" for n in local],
            "modelname": [_MODEL] * self.gpus,
        })  # fmt: skip

    def table(self, first: int = 0, count: int | None = None, gpus: range | None = None) -> pa.Table:
        """Make the records of `count` instants from the first on, ordered by time, then by GPU."""
        which = range(self.gpus) if gpus is None else gpus
        instants = range(first, self.instants if count is None else min(first + count, self.instants))
        gpu = pa.array(list(which) * len(instants), pa.int64())
        at = pa.array(list(instants), pa.int64()).take(_repeated(len(instants), len(which)))
        times = pa.array([self.start_ms + i * self.step_s * 1000 for i in instants], pa.timestamp("ms"))
        texts = pc.strftime(times.cast(pa.timestamp("s")), format="%Y-%m-%dT%H:%M:%SZ")
        columns: dict[str, Any] = {"timestamp": texts.take(_repeated(len(instants), len(which)))}
        columns |= {name: self._labels.column(name).combine_chunks().take(gpu) for name in LABELS}
        return pa.table({**columns, **_metrics(gpu, at)})

    def iter_csv(self, first: int = 0, count: int | None = None) -> Iterator[bytes]:
        """Write the records of some instants as CSV with a header, in blocks."""
        last = self.instants if count is None else min(first + count, self.instants)
        step = max(1, _BLOCK_ROWS // self.gpus)
        yield (",".join(COLUMNS) + "\n").encode()
        for start in range(first, last, step):
            yield to_csv(self.table(start, min(step, last - start)))

    def write(self, path: Path) -> int:
        """Write all of it into a file; returns its bytes."""
        with path.open("wb") as file:
            return sum(file.write(block) for block in self.iter_csv())


def fleet_of(rows: int, *, instants: int = 1000) -> Fleet:
    """Choose a fleet of about so many rows: 1000 records of each GPU, and at least eight GPUs."""
    gpus = max(rows // instants, GPUS_PER_HOST)
    return Fleet(gpus, max(1, min(instants, rows // gpus)))


def to_csv(table: pa.Table) -> bytes:
    """Write records as lines of CSV without a header."""
    sink = io.BytesIO()
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    pyarrow.csv.write_csv(table, sink, options)
    return sink.getvalue()


def _repeated(values: int, times: int) -> pa.Array:
    """Number `values` things, each so many times in a row."""
    return pc.divide(pa.array(range(values * times), pa.int64()), times)


def _noise_table() -> pa.Array:
    numbers = random.Random(20240115)
    return pa.array([numbers.gauss(0, 1) for _ in range(_NOISE_LENGTH)])


_NOISE = _noise_table()
#: Tenths as text: what 0.0 to 999.9 look like with one decimal.
_TENTHS = pa.array([f"{n // 10}.{n % 10}" for n in range(10_000)])


def _noise(gpu: pa.Array, at: pa.Array, salt: int) -> pa.Array:
    """What looks like chance, normal with deviation 1: the same for the same GPU and instant."""
    mixed = pc.add(pc.add(pc.multiply(gpu, 7919), pc.multiply(at, 104_729)), salt * 15_485_863)
    return _NOISE.take(pc.bit_wise_and(mixed, _NOISE_LENGTH - 1))


def _one_decimal(values: pa.Array) -> pa.Array:
    tenths = pc.round(pc.multiply(values, 10.0)).cast(pa.int64())
    return _TENTHS.take(pc.min_element_wise(pc.max_element_wise(tenths, 0), len(_TENTHS) - 1))


def _metrics(gpu: pa.Array, at: pa.Array) -> dict[str, pa.Array]:
    """Make the eight metrics of (GPU, instant)."""
    kind = pc.subtract(gpu, pc.multiply(pc.divide(gpu, 20), 20))
    idle = pc.greater_equal(kind, _BUSY + _HALF)
    mean = pc.if_else(pc.less(kind, _BUSY), 92.0, 45.0)
    # A wave of 15 to 36 minutes.
    period = pc.add(90.0, pc.cast(pc.bit_wise_and(pc.multiply(gpu, 37), 127), pa.float64()))
    wave = pc.sin(
        pc.add(pc.divide(pc.multiply(at.cast(pa.float64()), 6.283), period), gpu.cast(pa.float64()))
    )
    load = pc.add(pc.add(mean, pc.multiply(wave, 4.0)), pc.multiply(_noise(gpu, at, 1), 0.8))
    load = pc.if_else(idle, 0.0, pc.min_element_wise(load, 100.0))
    used = pc.add(pc.multiply(mean, 180.0), pc.multiply(_noise(gpu, pc.divide(at, 30), 2), 40.0))
    used = pc.if_else(idle, 4, pc.add(pc.round(used).cast(pa.int64()), 52_000))
    temperature = pc.add(
        pc.add(31.0, pc.multiply(load, 0.37)), pc.multiply(_noise(gpu, pc.divide(at, 2), 3), 0.2)
    )
    power = pc.add(pc.add(72.0, pc.multiply(load, 5.9)), pc.multiply(_noise(gpu, at, 4), 1.5))
    return {
        "gpu_utilization": _one_decimal(load),
        "memory_utilization": _one_decimal(pc.multiply(load, 0.62)),
        "memory_used_mb": used,
        "memory_free_mb": pc.subtract(_MEMORY_MB, used),
        "temperature": _one_decimal(temperature),
        "power_draw": _one_decimal(power),
        "sm_clock_mhz": pc.if_else(idle, 345, 1980),
        "memory_clock_mhz": pa.repeat(pa.scalar(2619), len(gpu)),
    }
