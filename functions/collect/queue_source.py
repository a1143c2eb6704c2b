"""The queue source: watches the queue and POSTs CloudEvents to collect (K_SINK). One replica, always on.

Run as `python -m functions.collect.queue_source`; in Knative it is a ContainerSource. It holds no state that
matters: whatever it was not told of, or forgot in a crash, a listing of the queue finds, at the start and
every POLL_INTERVAL. So every message is delivered at least once; that it is moved once is the claims' work.
"""

from __future__ import annotations

import itertools
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from functions.collect.dealer import WINDOW, Dealer
from functions.collect.metrics import Dealings, PipelineMetrics, serve_metrics
from functions.collect.pace import MAX_IN_FLIGHT, SLOW_S, Pace
from functions.collect.sink import Outcome, Sink, read_sink
from shared.config import read_variable
from shared.errors import BadConfig, Transient
from shared.etcd import Compacted, Etcd, Watch
from shared.http import start
from shared.keys import Keys
from shared.queue import Queue, ReadyMessage, parse_bell
from shared.queue.gate import Gauge

log = logging.getLogger(__name__)

#: Seconds before a listing or a watch that failed is tried again.
_RETRY_S = 0.5
#: Seconds for which requests under way are waited for at the end; a pod has 30.
STOP_S = 20.0

Thunk = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Request:
    """A request under way."""

    group: list[ReadyMessage]
    begun_at: float
    thread: threading.Thread


class QueueSource:
    """Feeds a dealer from the bell and from listings, and deals to collect.

    Everything that touches the dealer runs in the loop's thread: others hand it thunks.
    """

    def __init__(self, queue_: Queue, sink: Sink, poll_interval_s: float, *, stop_s: float = STOP_S) -> None:
        """Make a source.

        Args:
            queue_: What is watched.
            sink: Who is told.
            poll_interval_s: Seconds between listings, which find what the bell did not tell.
            stop_s: Seconds for which requests under way are waited for at the end.
        """
        self._queue = queue_
        self._stop_s = stop_s
        self._sink = sink
        self._poll_interval_s = poll_interval_s
        self._inbox: queue.SimpleQueue[Thunk] = queue.SimpleQueue()
        self._dealer = Dealer()
        self._pace = Pace()
        self._numbers = itertools.count()
        self._under_way: dict[int, _Request] = {}
        self._sent_events, self._failed_events = 0, 0
        self._stopping = threading.Event()
        self._list_at = -float("inf")
        self._list_failed = False
        self._watch: Watch | None = None

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stopping.set()
        self._inbox.put(lambda: None)

    def dealings(self) -> Dealings:
        """Tell what was dealt so far; from any thread."""
        return Dealings(
            in_flight=len(self._under_way),
            known=len(self._dealer),
            sent=self._sent_events,
            failed=self._failed_events,
        )

    def run(self) -> None:
        """Deal until stopped; requests under way are waited for, but not for ever."""
        threading.Thread(target=self._follow_bell, name="watcher", daemon=True).start()
        while not self._stopping.is_set():
            self._step()
            try:
                self._inbox.get(timeout=self._pause())()
                while True:
                    self._inbox.get_nowait()()
            except queue.Empty:
                pass
        if self._watch is not None:
            self._watch.close()
        self._wait_for_requests()

    def _wait_for_requests(self) -> None:
        deadline = time.monotonic() + self._stop_s
        for request in self._under_way.values():
            request.thread.join(max(deadline - time.monotonic(), 0.0))
        left = sum(request.thread.is_alive() for request in self._under_way.values())
        if left:
            log.warning("%d requests are not answered yet: left to collect", left, extra={"action": "left"})

    def _pause(self) -> float:
        """Tell how long nothing is to be done, unless somebody tells of something."""
        now = time.monotonic()
        next_at = self._list_at
        if len(self._under_way) < self._allowed(now):
            next_at = min(next_at, now + self._dealer.due(now))
        elif len(self._dealer):
            slow_at = (r.begun_at + SLOW_S for r in self._under_way.values() if now < r.begun_at + SLOW_S)
            next_at = min(next_at, min(slow_at, default=next_at))
        return max(max(next_at, self._pace.quiet_until) - now, 0.001)

    def _allowed(self, now: float) -> int:
        slow = sum(now - r.begun_at >= SLOW_S for r in self._under_way.values())
        return self._pace.allowed(len(self._dealer), slow)

    def _step(self) -> None:
        now = time.monotonic()
        if now < self._pace.quiet_until:
            return
        drained = self._dealer.overflowed and len(self._dealer) < WINDOW // 4
        if drained or now >= self._list_at:
            self._list(now)
        while len(self._under_way) < self._allowed(now):
            group = self._dealer.deal(now)
            if not group:
                break
            self._begin(group, now)

    def _list(self, now: float) -> None:
        """Find what the bell did not tell: from before the start, released, or claimed by one who died."""
        self._list_at = now + self._poll_interval_s
        try:
            held = self._queue.claimed()
            found = self._queue.list_ready(limit=WINDOW)
        except Transient as exc:
            if not self._list_failed:
                log.warning("cannot list the queue: %s", exc, extra={"action": "list_failed"})
            self._list_failed = True
            self._list_at = now + min(_RETRY_S, self._poll_interval_s)
            return
        self._list_failed = False
        self._dealer.overflowed = len(found) == WINDOW
        # Messages of this moment are left to the bell, which knows them with a fresher revision.
        self._dealer.find((m for m in found if m.id not in held), now)

    def _follow_bell(self) -> None:
        """Hand on what the bell tells, from the last revision that was seen; runs in the watcher's thread."""
        seen = 0
        while not self._stopping.is_set():
            try:
                if not seen:
                    seen = self._queue.revision()
                    self._inbox.put(self._list_soon)
                self._watch = self._queue.watch(seen + 1)
                for event in self._watch:
                    seen = event.mod_revision
                    if not event.deleted:
                        self._inbox.put(partial(self._hear, parse_bell(event.value, event.mod_revision)))
            except Compacted:
                log.warning("missed some of the queue's history: listing it", extra={"action": "compacted"})
                seen = 0
            except Transient as exc:
                log.warning("cannot watch the queue: %s", exc, extra={"action": "watch_failed"})
                self._stopping.wait(_RETRY_S)
            except Exception:
                # A bell that cannot be read, or a defect: what it would have told a listing finds.
                log.exception("watching the queue failed: listing it", extra={"action": "watch_failed"})
                self._inbox.put(self._list_soon)
                self._stopping.wait(_RETRY_S)

    def _list_soon(self) -> None:
        self._list_at = -float("inf")

    def _hear(self, messages: list[ReadyMessage]) -> None:
        self._dealer.hear(messages, time.monotonic())

    def _begin(self, group: list[ReadyMessage], now: float) -> None:
        number = next(self._numbers)
        # A daemon: a collect that never answers must not keep this process from ending.
        thread = threading.Thread(
            target=self._send, args=(number, group), name=f"sender-{number}", daemon=True
        )
        self._under_way[number] = _Request(group, now, thread)
        thread.start()

    def _send(self, number: int, group: list[ReadyMessage]) -> None:
        """POST one event; runs in a thread of its own."""
        try:
            outcome = self._sink.post(group)
        except Exception as exc:
            # Whatever it was: the group must come back.
            log.exception("a request failed", extra={"action": "deal_failed"})
            outcome = Outcome(failure=f"{type(exc).__name__}: {exc}")
        self._inbox.put(partial(self._sent, number, outcome))

    def _sent(self, number: int, outcome: Outcome) -> None:
        request = self._under_way.pop(number)
        now = time.monotonic()
        self._dealer.done(request.group, now)
        if not outcome.failure:
            self._sent_events += 1
            if self._pace.succeeded():
                log.info("collect takes events again", extra={"action": "recovered"})
            return
        self._failed_events += 1
        if self._pace.failed(request.begun_at, now, outcome.retry_after_s):
            log.warning("%s: trying again", outcome.failure, extra={"action": "deal_failed"})
        # A listing finds what is left of the group, with the attempts that were counted.
        self._list_soon()


def main() -> None:
    """Run the queue source until SIGTERM or SIGINT."""
    config = start("queue-source")
    try:
        sink = read_sink(config, MAX_IN_FLIGHT)
    except BadConfig as exc:
        sys.exit(f"gpu-telemetry queue-source: {exc.message}")
    etcd = Etcd(config.endpoints())
    queue_ = Queue(etcd, Keys(config.message_queue_prefix))
    source = QueueSource(queue_, sink, config.poll_interval)
    if config.metrics_port:
        gauge = Gauge(etcd, queue_, config.endpoints(), config.etcd_quota_bytes)
        metrics = PipelineMetrics(etcd, queue_, gauge.read_quota, source.dealings)
        serve_metrics(metrics, read_variable("HOST", "127.0.0.1"), config.metrics_port)
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_, lambda *_: source.stop())
    log.info("dealing to %s", read_variable("K_SINK"), extra={"action": "started"})
    source.run()


if __name__ == "__main__":
    main()
