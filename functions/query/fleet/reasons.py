"""Why GPUs were held back: the bits of throttle_reasons, by the names that NVIDIA gives them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.fleet.window import format_ms
from shared.records import chunk

#: nvml.h: nvmlClocksEventReason*.
REASONS = {
    1: "gpu_idle",
    2: "applications_clocks_setting",
    4: "sw_power_cap",
    8: "hw_slowdown",
    16: "sync_boost",
    32: "sw_thermal_slowdown",
    64: "hw_thermal_slowdown",
    128: "hw_power_brake_slowdown",
    256: "display_clock_setting",
}
#: Bits that hold nothing back: nothing runs, or the clock is the one that was asked for.
_HARMLESS = 1 | 2
#: Doubles name whole numbers up to here; more bits than that mean nothing.
_MOST_BITS = 2.0**52
_NS_PER_S = 1e9


class Stretch(NamedTuple):
    """In how many records something was, and in which first and last, epoch ms."""

    records: int
    first_ms: int
    last_ms: int

    def joined(self, other: Stretch) -> Stretch:
        """Join it with another one."""
        first, last = min(self.first_ms, other.first_ms), max(self.last_ms, other.last_ms)
        return Stretch(self.records + other.records, first, last)


def throttles(bits: int) -> bool:
    """Tell whether reasons hold a GPU back."""
    return bool(bits & ~_HARMLESS)


def decode_reasons(bits: int) -> dict[int, str]:
    """Name the bits that are set; one that has no name is `bit_<N>`, counted from 0."""
    ones = [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    return {one: REASONS.get(one, f"bit_{one.bit_length() - 1}") for one in ones}


def find_throttled(values: pa.Table, power: pa.Table, thermal: pa.Table) -> dict[str, dict[str, Any]]:
    """Find the GPUs that were held back, by uuid, the most often first.

    Args:
        values: `Values` of throttle_reasons.
        power: `Rises` of power_violation_ns.
        thermal: `Rises` of thermal_violation_ns.
    """
    found: dict[str, dict[str, Any]] = {}
    for uuid, rows in _rows_of_throttled(values).items():
        found[uuid] = _by_reason(rows)
    violations = {"power_violation_s": power, "thermal_violation_s": thermal}
    for table in violations.values():
        risen = table.filter(pc.greater(table.column("rise"), 0))
        for row in risen.select(["uuid", "first_rise_ms", "last_rise_ms"]).to_pylist():
            times = {"first_ms": row["first_rise_ms"], "last_ms": row["last_rise_ms"]}
            found.setdefault(row["uuid"], {"share": None, "throttled_now": None, **times, "reasons": None})
    for name, table in violations.items():
        rises = dict(zip(table.column("uuid").to_pylist(), table.column("rise").to_pylist(), strict=True))
        for uuid, row in found.items():
            row[name] = None if uuid not in rises else round(rises[uuid] / _NS_PER_S, 6)
    return dict(sorted(found.items(), key=lambda item: (-(item[1]["share"] or 0), item[0])))


def _rows_of_throttled(values: pa.Table) -> dict[str, list[Mapping[str, Any]]]:
    """List the rows of those GPUs that were held back in any record."""
    values = values.filter(pc.less(values.column("value"), _MOST_BITS))
    bits = pc.cast(chunk(values, "value"), pa.int64(), safe=False)
    holding = values.filter(pc.not_equal(pc.bit_wise_and(bits, ~_HARMLESS), 0))
    uuids = pc.unique(chunk(holding, "uuid"))
    wanted = values.set_column(values.column_names.index("value"), "value", bits)
    out = defaultdict(list)
    for row in wanted.filter(pc.is_in(wanted.column("uuid"), value_set=uuids)).to_pylist():
        out[row["uuid"]].append(row)
    return out


def _by_reason(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum one GPU's values up, reason by reason."""
    records = sum(row["count"] for row in rows)
    by_bit: dict[int, Stretch] = {}
    names: dict[int, str] = {}
    holding: Stretch | None = None
    for row in rows:
        stretch = Stretch(row["count"], row["first_ms"], row["last_ms"])
        if throttles(row["value"]):
            holding = stretch if holding is None else holding.joined(stretch)
        for bit, name in decode_reasons(row["value"]).items():
            names[bit] = name
            by_bit[bit] = by_bit[bit].joined(stretch) if bit in by_bit else stretch
    newest = max(rows, key=lambda row: row["last_ms"])
    return {
        "share": round((holding.records if holding else 0) / records, 4),
        "throttled_now": throttles(newest["value"]),
        "first_ms": None if holding is None else holding.first_ms,
        "last_ms": None if holding is None else holding.last_ms,
        "reasons": [
            {
                "reason": names[bit],
                "bit": bit,
                "throttles": throttles(bit),
                "share": round(stretch.records / records, 4),
                "first_seen": format_ms(stretch.first_ms),
                "last_seen": format_ms(stretch.last_ms),
            }
            for bit, stretch in sorted(by_bit.items())
        ],
    }
