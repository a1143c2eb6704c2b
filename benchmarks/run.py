"""What all parts share of one run: sizes, where files are, how progress is told."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.generate import Fleet, fleet_of
from benchmarks.victoria import find_victoria


@dataclass
class Run:
    """One run of some parts."""

    rows: int
    runs: int
    #: Seconds of open-loop load.
    seconds: float
    #: Whether the stores of ten times the size are measured too.
    tenfold: bool
    work_dir: Path
    console: Console
    victoria: str | None = field(default_factory=find_victoria)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def fleet(self) -> Fleet:
        """The fleet of the file."""
        return fleet_of(self.rows)

    def new_dir(self, name: str) -> Path:
        """Name a folder that does not exist yet."""
        return self.work_dir / f"{next(self._numbers):03d}-{name}"

    def progress(self) -> Progress:
        """Make a progress display: bars on a terminal, nothing elsewhere."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            refresh_per_second=2,  # it shares the cores with what is measured
            disable=not self.console.is_terminal,
        )

    def say(self, sentence: str) -> None:
        """Say what happens now."""
        self.console.print(sentence, highlight=False)
