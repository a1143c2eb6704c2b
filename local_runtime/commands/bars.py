"""Progress bars for long commands: on a terminal only, on standard error, gone when the work is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Told: how many steps are done, how many there are, and a few words on what is done.
Show = Callable[[int, int, str], None]


@contextmanager
def progress_bar(what: str) -> Iterator[Show]:
    """Show a bar; gives what is to be told how far it is."""
    if not sys.stderr.isatty():
        yield lambda _done, _total, _words: None
        return
    # rich costs 60 ms: only for those who see it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, words="")
        yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show that something is waited for."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  (60 ms: only for those who see it)

    with Console(stderr=True).status(what):
        yield


def format_bytes(count: int) -> str:
    """Write a size for people."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":  # noqa: PLR2004
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
