"""What waits to be sent to one socket: records up to a bound, and how many were left out beyond it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from functions.query.live.subscription import Subscription

#: Bytes of records that wait for one socket; a single batch may have more where nothing else waits.
MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one transaction, and the revisions before and after it."""

    records: pa.Table
    before: int
    revision: int


@dataclass(frozen=True, slots=True)
class Missed:
    """Records that are not sent: how many, if that is known, and the revisions before and after them."""

    reason: str
    count: int | None
    before: int
    revision: int


class Outbox:
    """For the hub, which guards it with its lock."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        #: None: nothing is wanted, or not yet.
        self.subscription: Subscription | None = None
        self._waiting: deque[Batch | Missed] = deque()
        self._bytes = 0
        #: What was left out since the outbox was full; it stays so until the reader has caught up.
        self._left_out: Missed | None = None

    def offer(self, batch: Batch) -> None:
        """Take records to be sent, or only their number where too much waits already."""
        if not batch.records.num_rows:
            return
        size, rows = batch.records.nbytes, batch.records.num_rows
        if self._left_out is not None:
            before, count = self._left_out.before, (self._left_out.count or 0) + rows
            self._left_out = Missed("slow", count, before, batch.revision)
        elif self._waiting and self._bytes + size > MOST_BYTES:
            self._left_out = Missed("slow", rows, batch.before, batch.revision)
        else:
            self._waiting.append(batch)
            self._bytes += size
        self._wake()

    def tell_lost(self, before: int, revision: int) -> None:
        """Take note that records may have come that nobody can tell any more."""
        if self._left_out is None:
            self._waiting.append(Missed("history", None, before, revision))
            self._wake()

    def take(self) -> Batch | Missed | None:
        """Give what is to be sent next; None where nothing waits."""
        if self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, Batch):
                self._bytes -= item.records.nbytes
            return item
        left_out, self._left_out = self._left_out, None
        return left_out

    def clear(self) -> None:
        """Forget all that waits, and what is wanted."""
        self.subscription, self._left_out, self._bytes = None, None, 0
        self._waiting.clear()
