"""A made-up fleet whose every value follows from its key: what was sent need not be remembered to be checked."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

#: 2024-01-15T00:00:00Z: nobody may delete a record for the age of its own time.
BASE_MS = 1_705_276_800_000
GPUS = 10
INSTANTS = 10
#: Rows of one upload.
ROWS = GPUS * INSTANTS
METRICS = (
    "gpu_utilization",
    "memory_utilization",
    "memory_used_mb",
    "memory_free_mb",
    "temperature",
    "power_draw",
    "sm_clock_mhz",
    "memory_clock_mhz",
)
HEADER = f"timestamp,gpu_id,hostname,uuid,device,modelname,{','.join(METRICS)}\n"

#: A record's key: uuid and epoch ms.
Key = tuple[str, int]


def uuid_of(host: str, gpu: int) -> str:
    return f"GPU-{host}-{gpu}"


def values_of(uuid: str, ms: int) -> tuple[float, ...]:
    """The metrics of a record, in the order of METRICS: whoever has the key knows them."""
    n = zlib.crc32(f"{uuid}@{ms}".encode())
    used = n % 80_000
    return (
        n % 1001 / 10,
        n // 7 % 1001 / 10,
        float(used),
        float(80_000 - used),
        20 + n // 11 % 600 / 10,
        n // 13 % 7000 / 10,
        float(n // 17 % 2000),
        float(n // 19 % 2000),
    )


def keys_of(host: str, number: int, instants: int = INSTANTS) -> list[Key]:
    """The keys of the number-th upload of a host; no two uploads share one."""
    first = BASE_MS + number * instants * 1000
    return [(uuid_of(host, g), first + i * 1000) for i in range(instants) for g in range(GPUS)]


def csv_of(host: str, number: int, instants: int = INSTANTS, *, padding: int = 0) -> bytes:
    """The number-th upload of a host, the same bytes whenever it is asked for.

    With `padding` a column of text that nobody uses makes each row so many bytes longer.
    """
    lines = [HEADER.replace("\n", ",remark\n") if padding else HEADER]
    rest = "," + "x" * (padding - 1) if padding else ""
    for uuid, ms in keys_of(host, number, instants):
        gpu = uuid.rpartition("-")[2]
        time = datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metrics = ",".join(map(str, values_of(uuid, ms)))
        lines.append(f"{time},{gpu},{host},{uuid},nvidia{gpu},NVIDIA H100 80GB HBM3,{metrics}{rest}\n")
    return "".join(lines).encode()
