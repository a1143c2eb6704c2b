"""Which processes run."""

from __future__ import annotations

import os
from pathlib import Path


def alive(pid):
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def every_pid():
    return [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and alive(entry.name)
    ]


def members(group):
    """The processes of a group."""
    found = []
    for pid in every_pid():
        try:
            if os.getpgid(pid) == group:
                found.append(pid)
        except ProcessLookupError:
            continue
    return found


def mentioning(text):
    """The processes whose command line or environment mentions a text."""
    found = []
    for pid in every_pid():
        try:
            folder = Path("/proc") / str(pid)
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in told and pid != os.getpid():
            found.append(pid)
    return found
