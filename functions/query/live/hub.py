"""The hub: one thread that follows the store and fills the outboxes of all sockets of this process.

It runs while there is a socket. Its position is the revision up to which every outbox was offered what it
wants; whoever begins to want something catches up to it from the history and then, in one step, is with it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

import pyarrow as pa

from functions.query.live.outbox import Batch, Missed, Outbox
from functions.query.live.subscription import Subscription
from shared.errors import Corrupt, PipelineError, Transient
from shared.etcd import Compacted, Watch
from shared.records import concat
from shared.store.news import Arrival, News

log = logging.getLogger(__name__)

#: Seconds to wait after something failed.
_PAUSE_S = 0.3


class Hub:
    """Safe to share between threads."""

    def __init__(self, news: Callable[[], News]) -> None:
        self._news = news
        self._lock = threading.Lock()
        self._outboxes: set[Outbox] = set()
        self._run: _Run | None = None

    def join(self, outbox: Outbox) -> int:
        """Take a socket in, and return the position, from which on nothing escapes it.

        Raises:
            Transient: etcd is away.
        """
        with self._lock:
            if self._run is None:
                self._run = _Run(self._news(), self._lock, self._outboxes)
            self._outboxes.add(outbox)
            return self._run.position

    def leave(self, outbox: Outbox) -> None:
        """Let a socket go; after the last one nothing is followed any more."""
        with self._lock:
            self._outboxes.discard(outbox)
            if not self._outboxes and self._run is not None:
                self._run.stop()
                self._run = None

    def position(self) -> int:
        """Return the revision up to which every outbox was offered what it wants."""
        with self._lock:
            return 0 if self._run is None else self._run.position

    def settle(self, outbox: Outbox, subscription: Subscription, told: int) -> bool:
        """Have an outbox filled from now on, if its socket was told all up to the position; tells whether."""
        with self._lock:
            if self._run is None or told < self._run.position:
                return False
            outbox.subscription = subscription
            return True

    def take(self, outbox: Outbox, told: int) -> tuple[Batch | Missed | None, int]:
        """Give what a socket is to send next, and up to where it will have been told all before that."""
        with self._lock:
            item = outbox.take()
            if item is None and outbox.subscription is not None and self._run is not None:
                told = self._run.position
            return item, told

    def clear(self, outbox: Outbox) -> None:
        """Forget what waits for a socket, and what it wants."""
        with self._lock:
            outbox.clear()


class _Run:
    """One time of following, from the first socket to the last."""

    def __init__(self, news: News, lock: threading.Lock, outboxes: set[Outbox]) -> None:
        self._news = news
        self._lock = lock
        self._outboxes = outboxes
        self.position, self._after = news.now()
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        threading.Thread(target=self._follow, name="live", daemon=True).start()

    def stop(self) -> None:
        """End soon; nothing is offered any more."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.close()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self._watch = self._news.watch(self._after)
                if self._stopping.is_set():
                    return
                for arrival in self._news.follow(self._watch):
                    self._deliver(arrival)
            except Compacted:
                self._skip()
            except Transient as exc:
                log.info("cannot follow the store: %s", exc, extra={"action": "live_failed"})
                self._stopping.wait(_PAUSE_S)
            except Exception:
                log.exception("following the store has a defect", extra={"action": "live_failed"})
                self._skip()
                self._stopping.wait(_PAUSE_S)

    def _skip(self) -> None:
        """Go on from now: some of what came meanwhile is not in the history any more."""
        try:
            revision, now = self._news.now()
            if revision < self.position:  # another etcd than before, or one that was restored
                self._deliver(Arrival(revision, lost=True))
            elif revision > self.position:
                self._deliver(self._news.find_unfolded(self.position, revision))
            self._after = now
        except (PipelineError, pa.ArrowException) as exc:
            log.warning("cannot find what was missed: %s", exc, extra={"action": "live_failed"})
            self._stopping.wait(_PAUSE_S)

    def _deliver(self, arrival: Arrival) -> None:
        """Offer what came to every outbox that wants it; done from the start again where that fails."""
        parts: dict[Subscription, pa.Table | None] = {}
        table, lost, is_read = None, arrival.lost, not arrival.segments
        while not self._stopping.is_set():
            with self._lock:
                wishes = {o.subscription for o in self._outboxes if o.subscription is not None}
                if wishes <= parts.keys():
                    self._offer(arrival.revision, parts, lost=lost)
                    return
            # Not under the lock; and once more where somebody has come to want something else meanwhile.
            if not is_read:
                table, is_read = self._read(arrival), True
                lost = lost or table is None
            parts |= {w: None if table is None else w.select(table) for w in wishes - parts.keys()}

    def _offer(self, revision: int, parts: Mapping[Subscription, pa.Table | None], *, lost: bool) -> None:
        before, self.position, self._after = self.position, revision, revision
        for outbox in self._outboxes:
            if outbox.subscription is None:
                continue
            if lost:
                outbox.tell_lost(before, revision)
            part = parts[outbox.subscription]
            if part is not None:
                outbox.offer(Batch(part, before, revision))

    def _read(self, arrival: Arrival) -> pa.Table | None:
        """Read what came; None where that cannot be told any more."""
        try:
            return concat([self._news.read(segment) for segment in arrival.segments])
        except (Compacted, Corrupt) as exc:
            log.warning("what came is not told: %s", exc, extra={"action": "live_failed"})
            return None
