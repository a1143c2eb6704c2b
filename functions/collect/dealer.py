"""Which messages the queue source deals to collect, and when: decisions only, no I/O, time as an argument.

The dealer knows the messages that the bell named or a listing found, and deals them in groups that make one
good segment each. A small message waits a moment for others to come with it; a full group, or an attempted
message, goes at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.queue import MAX_MESSAGES_PER_CLAIM, ReadyMessage

#: Seconds that a message waits for company.
GATHER_S = 0.012
#: Payload bytes of one group: as Parquet some 0.35 MB.
GROUP_BYTES = 1_000_000
#: How many messages the dealer keeps in mind; the rest is found by a listing when these are dealt.
WINDOW = 4096


class Dealer:
    """What is known and not dealt yet, in order of arrival; for one thread."""

    def __init__(self) -> None:
        #: With the time since when.
        self._waiting: dict[str, tuple[ReadyMessage, float]] = {}
        #: Messages that collect was told of and has not answered for, with the revision it was told.
        self._dealt: dict[str, int] = {}
        #: Of these the ones that the bell has named since.
        self._again: dict[str, ReadyMessage] = {}
        #: Whether messages were passed over because the window was full.
        self.overflowed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def hear(self, messages: Iterable[ReadyMessage], now: float) -> None:
        """Take note of messages that the bell names: published, or released by who could not move them."""
        for m in messages:
            if m.id not in self._dealt:
                self._note(m, now)
            elif m.revision > self._dealt[m.id]:
                # To be dealt again, but not beside the request that has just released it.
                self._again[m.id] = m

    def find(self, messages: Iterable[ReadyMessage], now: float) -> None:
        """Take note of messages that a listing found; those that are being worked on are no news."""
        for m in messages:
            if m.id not in self._dealt:
                self._note(m, now)

    def _note(self, m: ReadyMessage, now: float) -> None:
        if m.id in self._waiting:
            self._waiting[m.id] = m, self._waiting[m.id][1]
        elif len(self._waiting) < WINDOW:
            self._waiting[m.id] = m, now
        else:
            self.overflowed = True

    def deal(self, now: float) -> list[ReadyMessage]:
        """Take the next group, or nothing where waiting a little longer makes a better one."""
        group: list[ReadyMessage] = []
        size, full, oldest = 0, False, now
        for m, since in self._waiting.values():
            if group and (m.attempts or size + m.bytes > GROUP_BYTES or m.day != group[0].day):
                full = True
                break
            group.append(m)
            size += m.bytes
            oldest = min(oldest, since)
            if m.attempts or len(group) >= MAX_MESSAGES_PER_CLAIM:
                full = True
                break
        if not group or not (full or size >= GROUP_BYTES or now - oldest >= GATHER_S):
            return []
        for m in group:
            del self._waiting[m.id]
            self._dealt[m.id] = m.revision
        return group

    def due(self, now: float) -> float:
        """Tell in how many seconds `deal` is worth asking again; infinite while nothing waits."""
        first = next(iter(self._waiting.values()), None)
        return float("inf") if first is None else max(first[1] + GATHER_S - now, 0.0)

    def done(self, group: Iterable[ReadyMessage], now: float) -> None:
        """Forget a group that collect has answered for, well or not: a listing finds what is left of it.

        What was released meanwhile waits again.
        """
        for m in group:
            del self._dealt[m.id]
            again = self._again.pop(m.id, None)
            if again is not None:
                self._note(again, now)
