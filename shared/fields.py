"""The catalogue of telemetry fields: names, units, ranges, and every other name they go by.

Sources: NVIDIA's DCGM field list (dcgm_fields.h; 4.6 renamed many and keeps the old names), dcgm-exporter's
counters, `nvidia-smi --help-query-gpu`, and the column heads of `dcgmi dmon`. A value outside a field's range
is garbage and becomes null (DCGM_FI_DEV_GPU_UTIL has been seen at 808334905).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

_INF = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One metric: its column, its unit and the closed range that a true value lies in."""

    name: str
    unit: str
    minimum: float
    maximum: float
    description: str


class Source(NamedTuple):
    """How a name in a file maps to a field: multiply what the file says by `factor`."""

    field: Field
    factor: float = 1.0


#: The metrics that every answer carries, also where they are null.
FIXED_METRICS = (
    "gpu_utilization",
    "memory_utilization",
    "memory_used_mb",
    "memory_free_mb",
    "temperature",
    "power_draw",
    "sm_clock_mhz",
    "memory_clock_mhz",
)

_PERCENT, _RATIO, _NATURAL, _CELSIUS = (0.0, 100.0), (0.0, 1.0), (0.0, _INF), (-50.0, 200.0)

# name; unit; range; description; DCGM names without DCGM_FI_ (`*factor` where units differ), then others.
_CATALOGUE: tuple[tuple[str, str, tuple[float, float], str, str], ...] = (
    ("gpu_utilization", "%", _PERCENT, "share of time in which a kernel ran",
     "DEV_GPU_UTIL DEV_GPU_UTIL_RATIO GPUTL utilization.gpu"),
    ("memory_utilization", "%", _PERCENT, "share of time in which memory was read or written; not its fill",
     "DEV_MEM_COPY_UTIL DEV_MEM_COPY_UTIL_RATIO mem_copy_utilization MCUTL utilization.memory"),
    ("encoder_utilization", "%", _PERCENT, "share of time in which the video encoder ran",
     "DEV_ENC_UTIL ECUTL utilization.encoder"),
    ("decoder_utilization", "%", _PERCENT, "share of time in which the video decoder ran",
     "DEV_DEC_UTIL DCUTL utilization.decoder"),
    ("memory_used_mb", "MiB", _NATURAL, "frame buffer in use", "DEV_FB_USED FBUSD memory.used"),
    ("memory_free_mb", "MiB", _NATURAL, "frame buffer that is free", "DEV_FB_FREE FBFRE memory.free"),
    ("memory_reserved_mb", "MiB", _NATURAL, "frame buffer that the driver keeps",
     "DEV_FB_RESERVED FBRSV memory.reserved"),
    ("memory_total_mb", "MiB", _NATURAL, "frame buffer in all", "DEV_FB_TOTAL FBTTL memory.total"),
    ("temperature", "C", _CELSIUS, "temperature of the GPU",
     "DEV_GPU_TEMP DEV_GPU_TEMP_CELSIUS TMPTR temperature.gpu gpu_temperature"),
    ("memory_temperature", "C", _CELSIUS, "temperature of the memory",
     "DEV_MEMORY_TEMP MMTMP temperature.memory"),
    ("power_draw", "W", _NATURAL, "power that the board draws, averaged by the driver",
     "DEV_POWER_USAGE DEV_BOARD_POWER_WATTS POWER power_usage power.draw power.draw.average"),
    ("power_draw_instant", "W", _NATURAL, "power that the board draws at this instant",
     "DEV_POWER_USAGE_INSTANT POWINST power_usage_instant power.draw.instant"),
    ("power_limit", "W", _NATURAL, "power limit in force", "DEV_POWER_MGMT_LIMIT PMLMT power.limit"),
    ("energy_consumption_j", "J", _NATURAL, "energy since the driver was loaded; a counter",
     "DEV_TOTAL_ENERGY_CONSUMPTION*0.001 TOTEC*0.001"),
    ("sm_clock_mhz", "MHz", _NATURAL, "clock of the SMs",
     "DEV_SM_CLOCK SMCLK clocks.current.sm clocks.sm"),
    ("memory_clock_mhz", "MHz", _NATURAL, "clock of the memory",
     "DEV_MEM_CLOCK MMCLK clocks.current.memory clocks.mem clocks.current.mem"),
    ("pstate", "", (0.0, 15.0), "performance state, 0 the fastest", "DEV_PSTATE PSTAT"),
    ("fan_speed", "%", _PERCENT, "intended speed of the fan", "DEV_FAN_SPEED FANSP fan.speed"),
    ("throttle_reasons", "bits", _NATURAL, "why the clocks are held down, as DCGM's bits",
     "DEV_CLOCK_THROTTLE_REASONS DEV_CLOCKS_EVENT_REASONS DVCCTR"),
    ("xid_error", "", _NATURAL, "code of the last XID error; sticky", "DEV_XID_ERRORS DEV_XID_ERROR XIDER"),
    ("pcie_replay_count", "", _NATURAL, "PCIe replays; a counter", "DEV_PCIE_REPLAY_COUNTER RPCTR"),
    ("pcie_tx_bytes_per_s", "B/s", _NATURAL, "bytes sent over PCIe",
     "PROF_PCIE_TX_BYTES PCITX DEV_PCIE_TX_THROUGHPUT*1000"),
    ("pcie_rx_bytes_per_s", "B/s", _NATURAL, "bytes received over PCIe",
     "PROF_PCIE_RX_BYTES PCIRX DEV_PCIE_RX_THROUGHPUT*1000"),
    ("nvlink_tx_bytes_per_s", "B/s", _NATURAL, "bytes sent over NVLink", "PROF_NVLINK_TX_BYTES NVLTX"),
    ("nvlink_rx_bytes_per_s", "B/s", _NATURAL, "bytes received over NVLink", "PROF_NVLINK_RX_BYTES NVLRX"),
    ("nvlink_bandwidth_mb_per_s", "MB/s", _NATURAL, "bandwidth over all NVLinks",
     "DEV_NVLINK_BANDWIDTH_TOTAL NBWLT"),
    ("gr_engine_active", "ratio", _RATIO, "share of time in which the graphics engine was active",
     "PROF_GR_ENGINE_ACTIVE GRACT"),
    ("sm_active", "ratio", _RATIO, "share of time in which an SM had a warp, averaged over SMs",
     "PROF_SM_ACTIVE PROF_SM_UTIL_RATIO SMACT"),
    ("sm_occupancy", "ratio", _RATIO, "resident warps against the most there could be",
     "PROF_SM_OCCUPANCY SMOCC"),
    ("tensor_active", "ratio", _RATIO, "share of cycles in which the tensor pipe was active",
     "PROF_PIPE_TENSOR_ACTIVE TENSO"),
    ("dram_active", "ratio", _RATIO, "share of cycles in which device memory was active",
     "PROF_DRAM_ACTIVE DRAMA"),
    ("fp64_active", "ratio", _RATIO, "share of cycles in which the FP64 pipe was active",
     "PROF_PIPE_FP64_ACTIVE FP64A"),
    ("fp32_active", "ratio", _RATIO, "share of cycles in which the FP32 pipe was active",
     "PROF_PIPE_FP32_ACTIVE FP32A"),
    ("fp16_active", "ratio", _RATIO, "share of cycles in which the FP16 pipe was active",
     "PROF_PIPE_FP16_ACTIVE FP16A"),
    ("ecc_sbe_volatile", "", _NATURAL, "single-bit ECC errors since the driver was loaded",
     "DEV_ECC_SBE_VOL_TOTAL ESVTL ecc.errors.corrected.volatile.total"),
    ("ecc_dbe_volatile", "", _NATURAL, "double-bit ECC errors since the driver was loaded",
     "DEV_ECC_DBE_VOL_TOTAL EDVTL ecc.errors.uncorrected.volatile.total"),
    ("ecc_sbe_aggregate", "", _NATURAL, "single-bit ECC errors in the life of the board",
     "DEV_ECC_SBE_AGG_TOTAL ESATL ecc.errors.corrected.aggregate.total"),
    ("ecc_dbe_aggregate", "", _NATURAL, "double-bit ECC errors in the life of the board",
     "DEV_ECC_DBE_AGG_TOTAL EDATL ecc.errors.uncorrected.aggregate.total"),
    ("power_violation_ns", "ns", _NATURAL, "time held down by power; a counter", "DEV_POWER_VIOLATION PVIOL"),
    ("thermal_violation_ns", "ns", _NATURAL, "time held down by heat; a counter",
     "DEV_THERMAL_VIOLATION TVIOL"),
    ("remapped_rows_correctable", "", _NATURAL, "rows remapped for correctable errors",
     "DEV_CORRECTABLE_REMAPPED_ROWS CRMPS remapped_rows.correctable"),
    ("remapped_rows_uncorrectable", "", _NATURAL, "rows remapped for uncorrectable errors",
     "DEV_UNCORRECTABLE_REMAPPED_ROWS URMPS remapped_rows.uncorrectable"),
    ("row_remap_failure", "", _NATURAL, "1 where remapping a row failed",
     "DEV_ROW_REMAP_FAILURE RRF remapped_rows.failure"),
    ("row_remap_pending", "", _NATURAL, "1 where a reset is needed to remap a row",
     "DEV_ROW_REMAP_PENDING RRP remapped_rows.pending"),
)  # fmt: skip

FIELDS: dict[str, Field] = {
    name: Field(name=name, unit=unit, minimum=low, maximum=high, description=text)
    for name, unit, (low, high), text, _ in _CATALOGUE
}

#: DCGM's numbers for "there is no value" (dcgm_structs.h: DCGM_INT32_BLANK, _INT64_BLANK, _FP64_BLANK and the
#: three after each); the last of a range included. Large integers arrive rounded to a double.
BLANK_RANGES = (
    (2147483632.0, 2147483635.0),
    (9223372036854775792.0, 9223372036854775808.0),
    (140737488355328.0, 140737488355331.0),
)

#: What stands in a cell that has no value.
NULL_WORDS = (
    "", "-", "N/A", "n/a", "NA", "[N/A]", "[Not Supported]", "Not Supported", "[Unknown Error]",
    "[Insufficient Permissions]", "[Requested functionality has been deprecated]", "[Function Not Found]",
    "[GPU requires reset]", "ERR!", "nan", "NaN", "NAN", "-nan", "null", "NULL", "None",
    "<<<NULL>>>", "<<<NOT_FOUND>>>", "<<<NOT_SUPPORTED>>>", "<<<NOT_PERM>>>",
)  # fmt: skip


#: Fields that only grow until the driver is loaded anew.
COUNTERS = frozenset({
    "energy_consumption_j", "pcie_replay_count", "power_violation_ns", "thermal_violation_ns",
    "ecc_sbe_volatile", "ecc_dbe_volatile", "ecc_sbe_aggregate", "ecc_dbe_aggregate",
    "remapped_rows_correctable", "remapped_rows_uncorrectable",
})  # fmt: skip


#: What the labels of records say (shared/records.py).
LABELS_SAY = {
    "gpu_id": "index of the GPU on its host",
    "hostname": "host that the GPU is in",
    "device": "device file of the GPU",
    "modelname": "model of the GPU",
    "cluster": "cluster that the record was uploaded for",
    "pod": "Kubernetes pod that used the GPU",
    "namespace": "Kubernetes namespace of the pod",
    "container": "container of the pod",
    "driver_version": "version of the driver",
    "gpu_instance_id": "number of the MIG instance",
    "gpu_instance_profile": "profile of the MIG instance",
}


@cache
def _other_names() -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(
            f"DCGM_FI_{alias}" if alias.startswith(("DEV_", "PROF_")) else alias
            for alias in (other.partition("*")[0] for other in others.split())
        )
        for name, _, _, _, others in _CATALOGUE
    }


def find_other_names(name: str) -> tuple[str, ...]:
    """List what else a field is called in files, DCGM's own name first; none for what is not catalogued."""
    return _other_names().get(name, ())


@cache
def _dcgm_names() -> dict[str, tuple[str, float]]:
    out = {}
    for name, _, _, _, others in _CATALOGUE:
        alias, _, factor = others.split()[0].partition("*")
        out[name] = (f"DCGM_FI_{alias}", float(factor or 1))
    return out


def find_dcgm_name(name: str) -> tuple[str, float] | None:
    """Find DCGM's own name of a field and the factor from its unit to ours; None for what is not DCGM's."""
    return _dcgm_names().get(name)


@cache
def _sources() -> dict[str, Source]:
    out: dict[str, Source] = {}
    for name, _, _, _, others in _CATALOGUE:
        field = FIELDS[name]
        out[name] = Source(field)
        for other in others.split():
            alias, _, factor = other.partition("*")
            source = Source(field, float(factor or 1))
            out[alias.lower()] = source
            if alias.startswith(("DEV_", "PROF_")):
                out["dcgm_fi_" + alias.lower()] = source
    return out


def find_source(name: str) -> Source | None:
    """Find the field that a column head or metric name stands for; None where it is not catalogued."""
    return _sources().get(name.strip().lower())


def own_source(name: str) -> Source | None:
    """Make a field of an uncatalogued metric, under its own name in lower case.

    None where the name cannot be one: it must begin with a letter and hold letters, digits, `_`, `.`,
    `:`, `/`, `%` or `-` only, 128 at most.
    """
    own = re.sub(r"[\s.:/%-]+", "_", name.strip().lower()).strip("_")
    if re.fullmatch(r"[a-z][a-z0-9_]{0,127}", own) is None:
        return None
    return Source(Field(name=own, unit="", minimum=-_INF, maximum=_INF, description="not catalogued"))
