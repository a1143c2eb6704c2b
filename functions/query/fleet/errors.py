"""Which GPUs have errors: XID codes, ECC counters, remapped rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from functions.query.fleet.measures import Measure, Stats, Values
from functions.query.fleet.parts import Taken
from functions.query.fleet.series import Changes, Rises
from functions.query.fleet.window import format_known, format_ms
from functions.query.fleet.xid import SEVERITIES, Severity, explain_xid, grade_xid, worst
from shared.records import chunk

_XID = "xid_error"
#: Doubles name whole numbers up to here: what is larger is garbage, and no code.
_MOST_CODE = 2**53
#: Counters by the name they have in an answer; of the fields of one, the one that rose most counts.
COUNTERS = {
    "ecc_single_bit": ("ecc_sbe_volatile", "ecc_sbe_aggregate"),
    "ecc_double_bit": ("ecc_dbe_volatile", "ecc_dbe_aggregate"),
    "remapped_rows_correctable": ("remapped_rows_correctable",),
    "remapped_rows_uncorrectable": ("remapped_rows_uncorrectable",),
}
FLAGS = ("row_remap_pending", "row_remap_failure")
#: How bad a rise is, and, in the fields named, a total that did not rise; None: nothing to tell.
_RISEN: dict[str, Severity] = {
    "ecc_single_bit": "corrected",
    "ecc_double_bit": "critical",
    "remapped_rows_correctable": "corrected",
    "remapped_rows_uncorrectable": "warning",
}
_STANDING: dict[str, Severity] = {
    "ecc_dbe_volatile": "warning",
    "remapped_rows_correctable": "corrected",
    "remapped_rows_uncorrectable": "warning",
}
_FLAGGED: dict[str, Severity] = {"row_remap_pending": "warning", "row_remap_failure": "critical"}

#: Every field that the question is about.
FIELDS = (_XID, *(field for fields in COUNTERS.values() for field in fields), *FLAGS)
MEASURES: tuple[Measure, ...] = (
    Changes(_XID),
    Values(_XID),
    *(Rises(field) for fields in COUNTERS.values() for field in fields),
    *(Stats(field) for field in FLAGS),
)


def tables_with_errors() -> dict[str, Measure]:
    """Tell for each field by which measure it is seen whether it was reported."""
    counters = {field: Rises(field) for fields in COUNTERS.values() for field in fields}
    return {_XID: Values(_XID), **counters, **{field: Stats(field) for field in FLAGS}}


def find_errors(taken: Taken) -> dict[str, dict[str, Any]]:
    """Find the GPUs with errors, by uuid, the worst first.

    Args:
        taken: What MEASURES took.
    """
    xids = _find_xids(taken[Changes(_XID)], taken[Values(_XID)])
    with_xid = set(taken[Changes(_XID)].column("uuid").unique().to_pylist())
    counters = {
        name: [(field, _rows(taken[Rises(field)])) for field in fields] for name, fields in COUNTERS.items()
    }
    flags = {name: _rows(taken[Stats(name)]) for name in FLAGS}
    found = {}
    for uuid in sorted(set(xids) | _suspicious(taken)):
        rows = {
            name: [(f, rows[uuid]) for f, rows in tables if uuid in rows] for name, tables in counters.items()
        }
        row = {
            "xids": xids.get(uuid, [] if uuid in with_xid else None),
            **{name: _render_counter(of_field) for name, of_field in rows.items()},
            **{name: rows[uuid]["last"] > 0 if uuid in rows else None for name, rows in flags.items()},
        }
        severities = _grade(row, rows)
        if severities:
            seen: list[Any] = [
                *(row[name] for name in COUNTERS if row[name] is not None),
                *(row["xids"] or ()),
            ]
            first, last = (_times(seen, key) for key in ("first_seen", "last_seen"))
            found[uuid] = {
                "severity": worst(severities),
                "first_seen": min(first, default=None),
                "last_seen": max(last, default=None),
                **row,
            }
    return dict(sorted(found.items(), key=lambda item: (SEVERITIES.index(item[1]["severity"]), item[0])))


def _times(parts: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    return [part[key] for part in parts if part[key] is not None]


def _rows(table: pa.Table) -> dict[str, dict[str, Any]]:
    """List the rows, of those GPUs for which any value is above zero, or was, by uuid."""
    return {row["uuid"]: row for row in table.to_pylist()}


def _suspicious(taken: Taken) -> set[str]:
    """Name the GPUs one of whose counters or flags is, or was, above zero."""
    names: list[tuple[Measure, str]] = [(Stats(field), "last") for field in FLAGS]
    names += [(Rises(f), n) for fields in COUNTERS.values() for f in fields for n in ("last", "rise")]
    out: set[str] = set()
    for measure, name in names:
        table = taken[measure]
        out |= set(table.filter(pc.greater(table.column(name), 0)).column("uuid").to_pylist())
    return out


def _find_xids(changes: pa.Table, values: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """List the codes of each GPU that had any, in the order in which they came."""
    uuids = pc.unique(chunk(values.filter(pc.greater(values.column("value"), 0)), "uuid"))
    codes_of: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    known = set()
    for row in changes.filter(pc.is_in(changes.column("uuid"), value_set=uuids)).to_pylist():
        uuid, code = row["uuid"], int(row["value"])
        before = uuid not in known
        known.add(uuid)
        if not 0 < code < _MOST_CODE:
            continue
        xid = codes_of[uuid].setdefault(code, _new_xid(code, row["ms"], before=before))
        xid["events"] += not before
    for row in values.filter(pc.greater(values.column("value"), 0)).to_pylist():
        if 0 < (code := int(row["value"])) < _MOST_CODE:
            codes_of[row["uuid"]][code]["last_seen"] = format_ms(row["last_ms"])
    return {uuid: list(codes.values()) for uuid, codes in codes_of.items()}


def _new_xid(code: int, ms: int, *, before: bool) -> dict[str, Any]:
    return {
        "code": code,
        "meaning": explain_xid(code),
        "severity": grade_xid(code),
        "events": 0,
        "since_before": before,
        "first_seen": format_ms(ms),
        "last_seen": format_ms(ms),
    }


def _render_counter(of_field: list[tuple[str, dict[str, Any]]]) -> dict[str, Any] | None:
    """Render that field of a counter which rose most."""
    if not of_field:
        return None
    row = max((row for _, row in of_field), key=lambda row: float(row["rise"]))
    return {
        "increase": row["rise"],
        "total": row["last"],
        "first_seen": format_known(row["first_rise_ms"]),
        "last_seen": format_known(row["last_rise_ms"]),
    }


def _grade(row: Mapping[str, Any], rows: Mapping[str, list[tuple[str, dict[str, Any]]]]) -> list[Severity]:
    """List how bad the errors of a GPU are; nothing where it has none."""
    out: list[Severity] = [xid["severity"] for xid in row["xids"] or ()]
    out += [severity for name, severity in _FLAGGED.items() if row[name]]
    for name, of_field in rows.items():
        out += [_RISEN[name] for _, r in of_field if r["rise"] > 0]
        out += [_STANDING[field] for field, r in of_field if field in _STANDING and r["last"] > 0]
    return out
