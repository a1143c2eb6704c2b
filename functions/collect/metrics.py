"""What the queue source tells Prometheus: queue, database and dealing.

It always runs, so these do not depend on a function that may be scaled to zero. While etcd is away the scrape
still answers, with `gpu_telemetry_etcd_up` 0 and without what only etcd knows: no number is made up.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from shared import clock
from shared.errors import PipelineError
from shared.etcd import Etcd, MemberStatus
from shared.http.metrics import process_registry
from shared.queue import Queue
from shared.queue.depth import Depth

log = logging.getLogger(__name__)

#: Seconds for which a reading is as good as new, however many ask.
_FRESH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealings:
    """What the queue source has dealt since it started."""

    in_flight: int
    #: Messages that it knows of and has not dealt.
    known: int
    sent: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How queue and database stand."""

    depth: Depth
    status: MemberStatus
    #: Zero or less: without a quota.
    quota_bytes: int


class PipelineMetrics:
    """A collector for prometheus_client; thread-safe."""

    def __init__(
        self,
        etcd: Etcd,
        queue: Queue,
        read_quota: Callable[[], int],
        dealings: Callable[[], Dealings],
    ) -> None:
        self._etcd = etcd
        self._queue = queue
        self._read_quota = read_quota
        self._dealings = dealings
        self._lock = threading.Lock()
        self._read_at = -float("inf")
        self._reading: Reading | None = None

    def collect(self) -> Iterator[Any]:
        """Collect every metric."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

        reading, dealings = self._latest(), self._dealings()
        yield GaugeMetricFamily("gpu_telemetry_etcd_up", "1 where etcd answers", int(reading is not None))
        for name, text, value in _gauges(reading, dealings):
            yield GaugeMetricFamily(f"gpu_telemetry_{name}", text, value)
        events = CounterMetricFamily(
            "gpu_telemetry_events", "events sent to collect, by how that ended", labels=["result"]
        )
        events.add_metric(["sent"], dealings.sent)
        events.add_metric(["failed"], dealings.failed)
        yield events

    def _latest(self) -> Reading | None:
        """Return the reading of this second; None where etcd is away."""
        with self._lock:
            if time.monotonic() - self._read_at >= _FRESH_S:
                self._reading = self._read()
                self._read_at = time.monotonic()
            return self._reading

    def _read(self) -> Reading | None:
        try:
            return Reading(
                depth=self._queue.depth(clock.now_ms()),
                status=self._etcd.status(),
                quota_bytes=self._read_quota(),
            )
        except PipelineError as exc:
            log.info("cannot read how the queue is: %s", exc, extra={"action": "metrics_failed"})
            return None


def _gauges(reading: Reading | None, dealings: Dealings) -> Iterator[tuple[str, str, float]]:
    yield "events_in_flight", "events that collect works on", dealings.in_flight
    yield "messages_known", "messages that wait to be dealt, as far as they are known", dealings.known
    if reading is None:
        return
    depth, status = reading.depth, reading.status
    yield "queue_depth", "messages that are not moved yet, those being worked on included", depth.depth
    yield "queue_bytes", "bytes of these messages; a guess from samples where they are many", depth.bytes
    yield "queue_rows", "rows of these messages; a guess from samples where they are many", depth.rows
    yield "queue_oldest_message_age_seconds", "age of the oldest message; 0 without any", depth.oldest_age_s
    yield "queue_claimed", "messages that a collector works on", depth.claimed
    yield "dead_letters", "messages that were set aside", depth.dead
    yield "etcd_database_bytes", "size of etcd's file, which is what the quota counts", status.db_size_bytes
    yield "etcd_database_in_use_bytes", "of these, in use", status.db_in_use_bytes
    if reading.quota_bytes > 0:
        yield "etcd_quota_bytes", "size from which on etcd takes nothing more", reading.quota_bytes


def serve_metrics(metrics: PipelineMetrics, host: str, port: int) -> None:
    """Serve /metrics in threads of its own, until the process ends; a port that is taken ends it now."""
    from prometheus_client import start_http_server  # noqa: PLC0415  (only where METRICS_PORT wants it)

    registry = process_registry()
    registry.register(metrics)
    try:
        start_http_server(port, host, registry)
    except OSError as exc:
        sys.exit(f"gpu-telemetry queue-source: METRICS_PORT={port} cannot be used on {host}: {exc.strerror}")
