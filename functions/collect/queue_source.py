"""The queue source: watches the queue and POSTs CloudEvents to collect (K_SINK). One replica, always on.

Run as `python -m functions.collect.queue_source`; in Knative it is a ContainerSource. It holds no state that
matters: whatever it was not told of, or forgot in a crash, a listing of the queue finds, at the start and
every POLL_INTERVAL.
"""

from __future__ import annotations

import logging
import queue
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import orjson
import urllib3

from functions.collect.dealer import WINDOW, Dealer, decide_in_flight
from functions.collect.events import MESSAGES_TYPE, build_messages
from functions.collect.metrics import Dealings, PipelineMetrics, serve_metrics
from shared import clock
from shared.config import read_variable
from shared.errors import BadConfig, Transient
from shared.etcd import Compacted, Etcd, Watch
from shared.http import start
from shared.keys import Keys
from shared.queue import Queue, ReadyMessage, parse_bell
from shared.queue.gate import Gauge
from shared.tokens import ROLES_OF_SOURCES, TokenFile

log = logging.getLogger(__name__)

#: Requests to collect at a time: what ten instances take.
MAX_IN_FLIGHT = 20
#: Seconds that one request to collect may take.
_REQUEST_TIMEOUT_S = 60.0
#: Seconds to wait after collect or etcd failed: doubled up to the second.
_BACKOFF_S = (0.1, 5.0)

Thunk = Callable[[], None]


class QueueSource:
    """Feeds a dealer from the bell and from listings, and deals to collect.

    Everything that touches the dealer runs in the loop's thread: others hand it thunks.
    """

    def __init__(
        self, queue_: Queue, sink: str, poll_interval_s: float, tokens: TokenFile | None = None
    ) -> None:
        self._queue = queue_
        self._sink = sink
        self._tokens = tokens
        self._poll_interval_s = poll_interval_s
        self._inbox: queue.SimpleQueue[Thunk] = queue.SimpleQueue()
        self._dealer = Dealer()
        self._in_flight = 0
        self._sent_events, self._failed_events = 0, 0
        self._stopping = threading.Event()
        self._failures = 0
        self._quiet_until = 0.0
        self._listed_at = -float("inf")
        self._watch: Watch | None = None
        self._http = urllib3.PoolManager(maxsize=MAX_IN_FLIGHT, retries=False)
        self._senders = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="sender")

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self._stopping.set()
        self._inbox.put(lambda: None)

    def dealings(self) -> Dealings:
        """Tell what was dealt so far; from any thread."""
        return Dealings(
            in_flight=self._in_flight,
            known=len(self._dealer),
            sent=self._sent_events,
            failed=self._failed_events,
        )

    def run(self) -> None:
        """Deal until stopped; requests under way are waited for."""
        watcher = threading.Thread(target=self._follow_bell, name="watcher", daemon=True)
        watcher.start()
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
        self._senders.shutdown(wait=True, cancel_futures=True)

    def _pause(self) -> float:
        now = time.monotonic()
        until_list = max(self._listed_at + self._poll_interval_s, self._quiet_until) - now
        until_deal = max(self._dealer.due(now), self._quiet_until - now)
        if self._in_flight >= self._allowed():
            until_deal = float("inf")
        return max(min(until_list, until_deal), 0.001)

    def _allowed(self) -> int:
        return 1 if self._failures else decide_in_flight(len(self._dealer), MAX_IN_FLIGHT)

    def _step(self) -> None:
        now = time.monotonic()
        drained = self._dealer.overflowed and len(self._dealer) < WINDOW // 4
        if now >= self._quiet_until and (drained or now - self._listed_at >= self._poll_interval_s):
            self._list(now)
        while now >= self._quiet_until and self._in_flight < self._allowed():
            group = self._dealer.deal(now)
            if not group:
                break
            self._in_flight += 1
            self._senders.submit(self._send, group)

    def _list(self, now: float) -> None:
        """Find what the bell did not tell: from before the start, released, or claimed by one who died."""
        self._listed_at = now
        self._dealer.overflowed = False
        try:
            held = self._queue.claimed()
            found = self._queue.list_ready(limit=WINDOW)
        except Transient as exc:
            log.warning("cannot list the queue: %s", exc, extra={"action": "list_failed"})
            return
        self._dealer.overflowed = len(found) == WINDOW
        # Messages of this moment are left to the bell, which knows them with a fresher revision.
        self._dealer.learn((m for m in found if m.id not in held), now)

    def _follow_bell(self) -> None:
        revision = 0
        while not self._stopping.is_set():
            try:
                if not revision:
                    revision = self._queue.revision()
                    self._inbox.put(self._list_soon)
                self._watch = self._queue.watch(revision + 1)
                for event in self._watch:
                    if not event.deleted:
                        messages = parse_bell(event.value, event.mod_revision)
                        self._inbox.put(partial(self._learn, messages))
            except Compacted:
                log.warning("missed some of the queue's history: listing it", extra={"action": "compacted"})
                revision = 0
            except Transient as exc:
                log.warning("cannot watch the queue: %s", exc, extra={"action": "watch_failed"})
                self._stopping.wait(0.5)

    def _list_soon(self) -> None:
        self._listed_at = -float("inf")

    def _learn(self, messages: list[ReadyMessage]) -> None:
        self._dealer.learn(messages, time.monotonic())

    def _send(self, group: list[ReadyMessage]) -> None:
        """POST one event; runs in a sender's thread."""
        failure = ""
        try:
            answer = self._http.request(
                "POST",
                self._sink,
                body=orjson.dumps(build_messages(group)),
                headers={
                    "ce-specversion": "1.0",
                    "ce-id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{group[0].id}@{group[0].revision}")),
                    "ce-type": MESSAGES_TYPE,
                    "ce-source": "/queue",
                    "ce-time": datetime.fromtimestamp(clock.now_s(), UTC).isoformat().replace("+00:00", "Z"),
                    "content-type": "application/json",
                    **({} if self._tokens is None else self._tokens.headers(*ROLES_OF_SOURCES)),
                },
                timeout=urllib3.Timeout(connect=2.0, read=_REQUEST_TIMEOUT_S),
            )
            if answer.status >= 300:  # noqa: PLR2004
                failure = f"collect answered {answer.status}"
        except BadConfig as exc:
            failure = exc.message
        except urllib3.exceptions.HTTPError as exc:
            failure = f"collect cannot be reached: {type(exc).__name__}"
        self._inbox.put(partial(self._sent, group, failure))

    def _sent(self, group: list[ReadyMessage], failure: str) -> None:
        self._in_flight -= 1
        self._dealer.done(group)
        now = time.monotonic()
        if not failure:
            self._failures = 0
            self._sent_events += 1
            return
        self._failed_events += 1
        first, most = _BACKOFF_S
        pause_s = min(first * 2**self._failures, most)
        if not self._failures:
            log.warning("%s: trying again", failure, extra={"action": "deal_failed"})
        self._failures += 1
        self._quiet_until = now + pause_s
        # A listing finds what is left of the group, with the attempts that were counted.
        self._listed_at = self._quiet_until - self._poll_interval_s


def main() -> None:
    """Run the queue source until SIGTERM or SIGINT."""
    config = start("queue-source")
    sink = read_variable("K_SINK")
    if not sink:
        sys.exit("gpu-telemetry queue-source: K_SINK is not set: it is the address of the collect function")
    tokens = None
    if config.auth_tokens:
        tokens = TokenFile(Path(config.auth_tokens))
        try:
            tokens.first(*ROLES_OF_SOURCES)
        except BadConfig as exc:
            sys.exit(f"gpu-telemetry queue-source: {exc.message}")
    etcd = Etcd(config.endpoints())
    queue_ = Queue(etcd, Keys(config.message_queue_prefix))
    source = QueueSource(queue_, sink, config.poll_interval, tokens)
    if config.metrics_port:
        gauge = Gauge(etcd, queue_, config.endpoints(), config.etcd_quota_bytes)
        metrics = PipelineMetrics(etcd, queue_, gauge.read_quota, source.dealings)
        serve_metrics(metrics, read_variable("HOST", "127.0.0.1"), config.metrics_port)
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_, lambda *_: source.stop())
    log.info("dealing to %s", sink, extra={"action": "started"})
    source.run()


if __name__ == "__main__":
    main()
