"""What processes consume, read from /proc: CPU seconds and peak memory of whole trees.

A process's times and those of the children it has waited for are in its stat, so the sum over a tree
counts what ended meanwhile too, as long as the root lives. The kernel counts in ticks of 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_POLL_S = 0.02
#: At rest: no more than two ticks in so long.
_QUIET_S, _QUIET_CPU_S = 0.3, 0.021

T = TypeVar("T")


class BenchmarkFailure(Exception):
    """Something that is measured does not work; one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Stat:
    """One process, as /proc/<pid>/stat has it."""

    pid: int
    parent: int
    #: User and system time of its own, and of the children it has waited for.
    cpu_s: float
    waited_for_s: float


def parse_stat(text: str) -> Stat:
    """Read the one line of /proc/<pid>/stat; the name in brackets may hold anything."""
    pid = int(text[: text.index(" ")])
    fields = text[text.rindex(")") + 2 :].split()
    user, system, waited_user, waited_system = (int(n) for n in fields[11:15])
    return Stat(
        pid, int(fields[1]), (user + system) / _TICKS_PER_S, (waited_user + waited_system) / _TICKS_PER_S
    )


def read_stats() -> dict[int, Stat]:
    """Read every process there is."""
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = parse_stat((entry / "stat").read_text())
                found[stat.pid] = stat
    return found


def descend(stats: Mapping[int, Stat], root: int, named: Mapping[int, str], rest: str) -> dict[int, str]:
    """Name every process of a tree after its nearest ancestor that has a name, else `rest`."""
    names: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    open_ = [(root, rest)]
    while open_:
        pid, inherited = open_.pop()
        if pid not in stats:
            continue
        names[pid] = named.get(pid, inherited)
        open_ += [(child, names[pid]) for child in children.get(pid, [])]
    return names


def read_cpu_s(root: int, named: Mapping[int, str], rest: str) -> dict[str, float]:
    """Read the CPU seconds of a tree so far, by name; what ended counts for whoever waited for it."""
    stats = read_stats()
    out: dict[str, float] = {}
    for pid, name in descend(stats, root, named, rest).items():
        out[name] = out.get(name, 0.0) + stats[pid].cpu_s + stats[pid].waited_for_s
    return out


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Subtract name by name."""
    return {name: round(value - before.get(name, 0.0), 3) for name, value in after.items()}


def read_peak_bytes(root: int, named: Mapping[int, str], rest: str) -> dict[str, int]:
    """Read the peak resident memory of a tree, by name: the sum of its processes' peaks (VmHWM)."""
    out: dict[str, int] = {}
    for pid, name in descend(read_stats(), root, named, rest).items():
        with contextlib.suppress(OSError):
            for line in (_PROC / str(pid) / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    out[name] = out.get(name, 0) + int(line.split()[1]) * 1024
    return out


def wait_until(condition: Callable[[], T], timeout_s: float, what: str, *, every_s: float = _POLL_S) -> T:
    """Ask until the condition holds and return what it answered.

    Raises:
        BenchmarkFailure: Not in time; says what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise BenchmarkFailure(f"{what}: still not so after {timeout_s:g} s")
        time.sleep(every_s)
    return value


def wait_quiet(read_cpu_s: Callable[[], Mapping[str, float]], timeout_s: float = 20.0) -> None:
    """Wait until processes have come to rest: what they do after their start is not what is measured."""
    deadline = time.monotonic() + timeout_s
    last = sum(read_cpu_s().values())
    while time.monotonic() < deadline:
        time.sleep(_QUIET_S)
        now = sum(read_cpu_s().values())
        if now - last <= _QUIET_CPU_S:
            return
        last = now


def end(process: subprocess.Popen[bytes], timeout_s: float = 15.0) -> None:
    """End a process that we started: SIGTERM, and SIGKILL if it takes too long."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
    if process.poll() is None:
        process.kill()
        process.wait()
