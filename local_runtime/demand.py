"""What is asked of a service, second by second: the windows that its autoscaler looks at."""

from __future__ import annotations

import math

from local_runtime.activator.throttle import Throttle
from local_runtime.autoscaler import SlidingWindow

#: Knative's buckets.
GRANULARITY_S = 1.0


class Demand:
    """The stable and the panic window of one service."""

    def __init__(self, throttle: Throttle, metric: str, *, stable_s: float, panic_s: float) -> None:
        self._throttle = throttle
        self._by_requests = metric == "rps"
        self._stable = SlidingWindow(stable_s, GRANULARITY_S)
        self._panic = SlidingWindow(panic_s, GRANULARITY_S)
        self._second = -1
        self._read_s = self._written_s = -math.inf
        self._stable_s = stable_s
        #: Of the last second or so: requests in flight and waiting on average, requests and rows per second.
        self.concurrency = self.requests_per_s = self.rows_per_s = 0.0
        #: Since the beginning.
        self.requests = self.rows = 0

    def note_arrival(self, now_s: float) -> None:
        """Count a request in front of zero instances at once: one, as the activator reports it."""
        self._record(now_s, 1.0)

    def tick(self, now_s: float, *, is_watched: bool) -> None:
        """Record what the last second was like, once it is over.

        Args:
            now_s: Monotonic.
            is_watched: Whether there are instances, which report also that nothing happens. Without, nobody
                reports but requests that wait.
        """
        second = math.floor(now_s)
        if second == self._second:
            return
        # A loop that was held up still says something of each second that passed meanwhile.
        missed = min(second - self._second, 60) if self._second >= 0 else 1
        self._second = second
        load, elapsed_s = self._throttle.read_load(now_s), now_s - self._read_s
        self._read_s, self.concurrency = now_s, load.concurrency
        self.requests_per_s, self.rows_per_s = load.requests / elapsed_s, load.rows / elapsed_s
        self.requests += load.requests
        self.rows += load.rows
        value = self.requests_per_s if self._by_requests else load.concurrency
        if is_watched or value:
            for earlier in range(missed - 1, -1, -1):
                self._record(float(second - earlier), value)

    def averages(self, now_s: float) -> tuple[float, float] | None:
        """Return the averages over the stable and the panic window; None without any data."""
        if now_s - self._written_s > self._stable_s:
            return None
        return self._stable.average(now_s), self._panic.average(now_s)

    def _record(self, now_s: float, value: float) -> None:
        self._written_s = now_s
        self._stable.record(now_s, value)
        self._panic.record(now_s, value)
