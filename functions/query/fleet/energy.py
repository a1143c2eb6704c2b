"""How much power GPUs draw, and how much energy they used."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.fleet.conditions import boards, look_up
from functions.query.fleet.measures import group, renamed
from shared.records import chunk

_J_PER_KWH = 3_600_000.0


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy in kWh, and the fields it was taken from; None where none could say."""

    kwh: float | None
    fields: tuple[str, ...]


def add_energy(counted: pa.Table, integrated: pa.Table) -> Energy:
    """Add up the energy of all boards.

    Args:
        counted: `Rises` of energy_consumption_j; preferred, where a GPU has two values or more.
        integrated: `Areas` of power_draw.
    """
    counted = counted.filter(pc.greater(counted.column("last_ms"), counted.column("first_ms")))
    uuids = pc.unique(pa.concat_arrays([chunk(counted, "uuid"), chunk(integrated, "uuid")]))
    by_counter, by_power = look_up(uuids, counted, "rise"), look_up(uuids, integrated, "area")
    joules = pc.coalesce(by_counter, by_power)
    total = sum_of_boards(uuids, joules)
    used = {
        "energy_consumption_j": by_counter.is_valid(),
        "power_draw": pc.and_(by_counter.is_null(), by_power.is_valid()),
    }
    fields = tuple(name for name, mask in used.items() if pc.any(mask).as_py())
    return Energy(None if total is None else total / _J_PER_KWH, fields)


def sum_of_boards(uuids: pa.Array, values: pa.Array) -> float | None:
    """Add up what boards say; each MIG instance says its board's value, so that counts once."""
    by_board = renamed(
        group({"board": boards(uuids), "value": values}, "board", [("value", "max")]), ("value",)
    )
    total = pc.sum(chunk(by_board, "value")).as_py()
    return None if total is None else float(total)
