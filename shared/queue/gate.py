"""The gate that publishes go through: it decides by one reading of queue and database for all threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from shared import clock
from shared.errors import PipelineError
from shared.etcd import Etcd
from shared.etcd_metrics import QUOTA, read_metrics
from shared.queue.admission import (
    DEFAULT_QUOTA_BYTES,
    MAX_DATABASE_SHARE,
    Decision,
    Limits,
    Reading,
    decide_admission,
)
from shared.queue.queue import Queue

log = logging.getLogger(__name__)

#: Seconds for which a reading is as good as new; for which publishes go by it while the next one is read;
#: and for which they do where none can be read.
_FRESH_S, _USABLE_S, _FORGOTTEN_S = 1.0, 5.0, 15.0
#: Seconds to wait for a reading; after them the publish itself finds out how etcd is.
_WAIT_S = 0.2
#: Seconds between two questions for a quota that etcd did not tell.
_QUOTA_RETRY_S = 60.0


class Gauge:
    """Reads how queue and database stand; for one thread at a time."""

    def __init__(self, etcd: Etcd, queue: Queue, endpoints: Sequence[str], quota_bytes: int = 0) -> None:
        """Make a gauge; a quota of 0 is asked of etcd, once."""
        self._etcd = etcd
        self._queue = queue
        self._endpoints = endpoints
        self._quota_bytes = quota_bytes
        self._quota_asked_at = -_QUOTA_RETRY_S
        self._held_at = -float("inf")

    def read(self) -> Reading:
        """Read; a few milliseconds.

        Raises:
            Transient: etcd is away.
        """
        depth = self._queue.depth(clock.now_ms())
        status = self._etcd.status()
        quota_bytes = self.read_quota()
        if depth.depth:
            self._held_at = time.monotonic()
        # The quota counts the file, free pages and all: far below it there is no alarm to ask for.
        suspicious = 0 < MAX_DATABASE_SHARE * quota_bytes <= status.db_size_bytes
        return Reading(
            messages=depth.depth,
            bytes=depth.bytes,
            empty_s=time.monotonic() - self._held_at,
            database_bytes=status.db_in_use_bytes,
            quota_bytes=quota_bytes,
            space_alarm=suspicious and self._etcd.has_space_alarm(),
            dead=depth.dead,
        )

    def read_quota(self) -> int:
        """Return etcd's quota, as it is set, as etcd tells it, or etcd's default."""
        now = time.monotonic()
        if not self._quota_bytes and now - self._quota_asked_at >= _QUOTA_RETRY_S:
            self._quota_asked_at = now
            self._quota_bytes = int(read_metrics(self._endpoints, [QUOTA]).get(QUOTA, 0))
        return self._quota_bytes or DEFAULT_QUOTA_BYTES


class Gate:
    """Lets publishes through, slows them down or refuses them; thread-safe.

    etcd is asked at most once a second, by a thread of its own: a publish goes by the last reading, and by
    what this process has published since. Where no reading is to be had the publish itself will fail.
    """

    def __init__(self, read: Callable[[], Reading], limits: Limits) -> None:
        self._read = read
        self._limits = limits
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._read_at = -float("inf")
        #: When it was tried last: an etcd that is away is not asked by every publish.
        self._tried_at = -float("inf")
        #: Published by this process since the reading: messages and bytes.
        self._since = (0, 0)
        #: Set when the reading under way has ended; None where none is.
        self._under_way: threading.Event | None = None

    def check(self) -> None:
        """Refuse an upload that is to begin where its publishes would be refused; never waits long.

        Raises:
            Transient: The queue is at a mark, or the database while moving still frees some of it.
            NoSpace: The database is too full, and waiting does not help.
        """
        self._decide(wait=False)

    def admit(self, size: int) -> None:
        """Let a publish of so many bytes through, perhaps after a delay.

        Raises:
            Transient: As `check`.
            NoSpace: As `check`.
        """
        delay_s = self._decide(wait=True).delay_s
        if delay_s:
            threading.Event().wait(delay_s)
        with self._lock:
            messages, bytes_ = self._since
            self._since = (messages + 1, bytes_ + size)

    def _decide(self, *, wait: bool) -> Decision:
        reading, age_s, under_way = self._latest()
        if under_way is not None and age_s > _USABLE_S and wait:
            under_way.wait(_WAIT_S)
            reading, age_s, under_way = self._latest()
        decision = self._judge(reading)
        if decision.refusal is not None and under_way is not None:
            # Nobody is turned away for what was so a while ago.
            under_way.wait(_WAIT_S)
            decision = self._judge(self._latest()[0])
        if decision.refusal is not None:
            raise decision.refusal
        return decision

    def _judge(self, reading: Reading | None) -> Decision:
        if reading is None:
            return Decision()
        messages, bytes_ = self._since
        now = replace(reading, messages=reading.messages + messages, bytes=reading.bytes + bytes_)
        return decide_admission(now, self._limits)

    def _latest(self) -> tuple[Reading | None, float, threading.Event | None]:
        """Return the reading, its age, and what is set when the next is there, if one is under way."""
        with self._lock:
            now = time.monotonic()
            if now - self._tried_at > _FRESH_S and self._under_way is None:
                self._under_way = threading.Event()
                threading.Thread(target=self._refresh, name="gauge", daemon=True).start()
            age_s = now - self._read_at
            return self._reading if age_s < _FORGOTTEN_S else None, age_s, self._under_way

    def _refresh(self) -> None:
        before = self._since
        reading: Reading | None = None
        try:
            reading = self._read()
        except PipelineError as exc:
            log.info("cannot read how full the queue is: %s", exc, extra={"action": "gauge_failed"})
        finally:
            with self._lock:
                self._tried_at = time.monotonic()
                if reading is not None:
                    messages, bytes_ = self._since
                    self._since = (messages - before[0], bytes_ - before[1])
                    self._reading, self._read_at = reading, self._tried_at
                ended, self._under_way = self._under_way, None
            if ended is not None:
                ended.set()
