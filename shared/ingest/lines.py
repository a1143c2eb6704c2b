"""The careful way through a block: which of its lines are rows, and what is wrong with the others.

Only blocks in which something is wrong come here. Good lines are handed back as text, to be parsed in
columns; nothing is made of them one by one.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field

from shared.ingest.blocks import Block
from shared.ingest.report import BadCell

#: A quoted cell that is not closed within so many lines was never meant to go on.
_MAX_ROW_LINES = 20
_SHOWN_CHARACTERS = 200


@dataclass(slots=True)
class Lines:
    """The rows of a block, and the lines that are none."""

    rows: list[bytes] = field(default_factory=list)
    #: For each row the number of its (first) line in the file.
    numbers: list[int] = field(default_factory=list)
    rejected: list[BadCell] = field(default_factory=list)


def shown(text: str) -> str:
    """Cut a text to what fits into a report."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def split_rows(block: Block, cells: int) -> Lines:
    """Split a block into rows of so many cells; every other line is rejected with its reason.

    Empty lines are no rows and no errors, as in every CSV reader. A row may go over several lines inside
    quotes; where the quotes never close, or the cells then do not fit, its first line alone is rejected.
    """
    out = Lines()
    lines = block.data.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    at = 0
    while at < len(lines):
        line = lines[at].removesuffix(b"\r")
        number = block.first_line + at
        if not line.strip():
            at += 1
            continue
        taken, reason = _take(lines, at, cells)
        if reason is None:
            row = b"\n".join(lines[at : at + taken]).removesuffix(b"\r")
            out.rows.append(row)
            out.numbers.append(number)
        else:
            text = shown(line.decode("utf-8", "replace"))
            out.rejected.append(BadCell(number, None, text, reason, rejects=True))
        at += taken
    return out


def _take(lines: list[bytes], at: int, cells: int) -> tuple[int, str | None]:
    """Tell how many lines the row at `at` has, or why its first line is not one."""
    line = lines[at].removesuffix(b"\r")
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return 1, "this line is not UTF-8"
    if b'"' not in line:
        if b"\r" in line:
            return 1, "a bare carriage return stands in the line"
        found = line.count(b",") + 1
        return 1, None if found == cells else _cells_reason(cells, found)
    for taken in range(1, min(_MAX_ROW_LINES, len(lines) - at) + 1):
        found = _count_cells(lines[at : at + taken])
        if found == cells:
            return taken, None
        if found and taken == 1:
            return 1, _cells_reason(cells, found)
    return 1, "a quote is opened and never closed"


def _count_cells(lines: list[bytes]) -> int:
    """Count the cells of lines that are one row; 0 where the row is not closed, or not one."""
    try:
        text = [line.decode("utf-8").removesuffix("\r") + "\n" for line in lines]
        # An open quote swallows what follows; a closed row leaves it alone.
        # Over several lines the quotes must be right to the letter, or a stray one would swallow good rows.
        rows = list(csv.reader([*text, "\n", "after\n"], strict=len(lines) > 1))
    except (csv.Error, UnicodeDecodeError):
        return 0
    return len(rows[0]) if len(rows) == 3 and rows[2] == ["after"] else 0  # noqa: PLR2004


def _cells_reason(cells: int, found: int) -> str:
    return f"{cells} cells expected, as in the header; {found} found"
