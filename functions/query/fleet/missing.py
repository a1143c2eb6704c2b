"""Which GPUs should be there and are not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from functions.query.fleet.window import format_known, format_ms
from shared.expected import ExpectedGpus


@dataclass(slots=True)
class Host:
    """A host: boards that it had, and those that were seen in the window."""

    name: str | None
    expected: int = 0
    #: Whether a setting says what is expected.
    is_set: bool = False
    #: The newest row of each board that was known before the window's end.
    boards: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    #: When each board was there, first and last.
    lives: dict[str, tuple[int, int]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def add(self, row: Mapping[str, Any], *, seen: bool) -> None:
        """Add a GPU that it had: a board, or an instance of one."""
        board, first, last = row["board"], row["first_ms"], row["last_ms"]
        if board not in self.boards or self.boards[board]["last_ms"] < last:
            self.boards[board] = row
        low, high = self.lives.get(board, (first, last))
        self.lives[board] = (min(low, first), max(high, last))
        if seen:
            self.seen.add(board)

    def missing(self) -> int:
        """Count what is missing."""
        return max(self.expected - len(self.seen), 0)

    def last_ms(self) -> int | None:
        """Return when anything of it was seen last."""
        return max((row["last_ms"] for row in self.boards.values()), default=None)

    def render(self) -> dict[str, Any]:
        """Write it into an answer; of more boards than are missing, those seen last are named."""
        gone = [row for board, row in self.boards.items() if board not in self.seen]
        gone.sort(key=lambda row: (-row["last_ms"], row["uuid"]))
        gone = gone[: self.missing()]
        return {
            "hostname": self.name,
            "expected": self.expected,
            "expected_from": "setting" if self.is_set else "history",
            "seen": len(self.seen),
            "missing": self.missing(),
            "unnamed": self.missing() - len(gone),
            "last_seen": format_known(self.last_ms()),
            "gpus": [
                {
                    "uuid": row["board"],
                    "gpu_id": row.get("gpu_id"),
                    "model": row.get("modelname"),
                    "last_seen": format_ms(row["last_ms"]),
                }
                for row in gone
            ],
        }


def compare_hosts(
    known: Iterable[Mapping[str, Any]],
    seen: Collection[str],
    *,
    end_ms: int,
    silence_ms: int,
    setting: ExpectedGpus,
    named: Iterable[str] = (),
) -> list[Host]:
    """Compare what each host should have with what was seen of it; those without any GPU first.

    Args:
        known: GPUs with uuid, board, first_ms, last_ms and, where known, hostname.
        seen: The uuids that have records in the window.
        end_ms: The window's end: what came first after it was not expected yet.
        silence_ms: A GPU counts as there for so long after its last record.
        setting: What EXPECTED_GPUS says; what it does not say is taken from history.
        named: Hosts that are expected whether they were ever seen or not.
    """
    hosts: dict[str | None, Host] = {name: Host(name) for name in named}
    for row in known:
        name = row.get("hostname")
        if row["first_ms"] < end_ms:
            hosts.setdefault(name, Host(name)).add(row, seen=row["uuid"] in seen)
    for host in hosts.values():
        wanted = None if host.name is None else setting.of(host.name)
        host.is_set = wanted is not None
        host.expected = most_at_once(host.lives.values(), silence_ms) if wanted is None else wanted
    return sorted(hosts.values(), key=lambda h: (bool(h.seen), -h.missing(), h.name or ""))


def most_at_once(lives: Iterable[tuple[int, int]], silence_ms: int) -> int:
    """Count how many were there at one time at most, each from its first to some time after its last record.

    So a board that was replaced by another does not make one more.
    """
    lives = list(lives)
    edges = sorted([(first, -1) for first, _ in lives] + [(last + silence_ms, 1) for _, last in lives])
    most = there = 0
    for _, edge in edges:
        there -= edge
        most = max(most, there)
    return most
