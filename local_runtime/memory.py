"""What a process and its children take of memory."""

from __future__ import annotations

import psutil

#: Looking for the children walks all processes of the machine; a worker that is replaced is found this late.
_CHILDREN_FOR_S = 10.0


class MemoryMeter:
    """Reads what one process tree takes, again and again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._tree: list[psutil.Process] = []
        self._looked_s = -float("inf")

    def read_bytes(self, now_s: float) -> int:
        """Return the memory of the tree in bytes, 0 once it is gone.

        Files that are mapped (libraries) do not count where the system tells them apart, as in a cgroup.
        Pages that a worker still shares with its parent count twice: some 30 MB of a function.
        """
        if now_s - self._looked_s >= _CHILDREN_FOR_S:
            self._looked_s = now_s
            self._tree = _list_tree(self._pid)
        return sum(_read_own(process) for process in self._tree)


def _list_tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _read_own(process: psutil.Process) -> int:
    try:
        found = process.memory_info()
    except psutil.Error:
        return 0
    return int(found.rss - getattr(found, "shared", 0))
