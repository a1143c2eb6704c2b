"""What is shown and written: tables, plain where there is no terminal, JSON, and docs/benchmarks.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Line, Section
from benchmarks.processes import BenchmarkFailure

BEGIN = "<!-- benchmarks: everything between these two lines is written by `make bench` -->"
END = "<!-- benchmarks: end -->"


def say_aim(line: Line) -> str:
    """Say what a figure is to reach, and whether it does."""
    if line.aim is None:
        return ""
    return f"{line.aim.text}: {'reached' if line.aim.met else 'missed'}"


def print_sections(console: Console, sections: Sequence[Section]) -> None:
    """Print one table per part."""
    for section in sections:
        heads = _heads(section)
        table = Table(
            title=section.title, title_justify="left", box=box.SIMPLE_HEAD if console.is_terminal else None
        )
        table.add_column(heads[0], no_wrap=True)
        for head in heads[1:]:
            table.add_column(head, justify="left" if head == "aim" else "right", overflow="fold")
        for line in section.lines:
            aim = say_aim(line)
            if line.aim is not None and console.is_terminal:
                aim = f"[{'green' if line.aim.met else 'yellow'}]{aim}[/]"
            table.add_row(*_cells(section, line)[:-1], aim)
        console.print(table)
        for sentence in section.lost:
            console.print(f"LOST: {sentence}", style="bold red", highlight=False, markup=False)


def _heads(section: Section) -> list[str]:
    """Name the columns; one that no line fills is left out."""
    return ["", *(name for name, used in zip(_names(section), _used(section), strict=True) if used)]


def _names(section: Section) -> tuple[str, str, str, str]:
    return (*section.columns, "aim")


def _used(section: Section) -> list[bool]:
    return [any(row) for row in zip(*(_values(line) for line in section.lines), strict=True)]


def _values(line: Line) -> tuple[str, str, str, str]:
    return line.ours, line.theirs, line.ratio, say_aim(line)


def _cells(section: Section, line: Line) -> list[str]:
    cells = [value for value, used in zip(_values(line), _used(section), strict=True) if used]
    return [line.what, *cells, *([""] if not _used(section)[3] else [])]


def to_json(machine: Mapping[str, str], at: str, sections: Sequence[Section]) -> str:
    """Write everything for machines."""
    out: dict[str, Any] = {"at": at, "machine": dict(machine), "sections": [asdict(s) for s in sections]}
    return json.dumps(out, indent=2)


def to_markdown(machine: Mapping[str, str], at: str, sections: Sequence[Section]) -> str:
    """Write everything for docs/benchmarks.md."""
    out = [f"Measured {at}.", "", "| on | |", "|---|---|"]
    out += [f"| {name} | {value} |" for name, value in machine.items()]
    for section in sections:
        heads = _heads(section)
        rules = ["---", *("---" if head == "aim" else "---:" for head in heads[1:])]
        out += ["", f"### {section.title}", "", f"| {' | '.join(heads)} |", f"|{'|'.join(rules)}|"]
        for line in section.lines:
            cells = _cells(section, line)[: len(heads)]
            cells[0] = "&nbsp;&nbsp;" + cells[0].strip() if cells[0].startswith(" ") else cells[0]
            out.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        out += ["", section.includes.rstrip()]
        out += [f"- **Lost: {sentence}**" for sentence in section.lost]
    return "\n".join(out) + "\n"


def replace_generated(text: str, generated: str) -> str:
    """Put what was generated between the two marker lines of a document.

    Raises:
        BenchmarkFailure: The markers are not there.
    """
    before, found, rest = text.partition(BEGIN + "\n")
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise BenchmarkFailure(f"the document lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{generated}\n{END}{after}"


def write_document(path: Path, generated: str) -> None:
    """Rewrite the generated part of a document, or begin one."""
    text = path.read_text() if path.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    path.write_text(replace_generated(text, generated))
