"""How many requests were answered, with what and how fast: numbers for /metrics, kept by each process."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

#: Upper bounds of the buckets of durations, in seconds, each included; the last bucket has none.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True, kw_only=True)
class Count:
    """The requests of one route, method and status."""

    #: The declared path, such as /api/v1/gpus/{gpu}; `unmatched` for all that lead nowhere.
    route: str
    method: str
    status: int
    #: For each bound of BUCKETS_S the requests that took no longer.
    within: Sequence[tuple[float, int]]
    count: int
    seconds: float


class Counts:
    """Counts requests; safe to share between threads. Bounded: routes, methods and statuses are few."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[tuple[str, str, int], float] = {}
        self._buckets: dict[tuple[str, str, int], list[int]] = {}

    def add(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        key = (route, method, status)
        with self._lock:
            buckets = self._buckets.get(key)
            if buckets is None:
                buckets = self._buckets[key] = [0] * (len(BUCKETS_S) + 1)
            buckets[bisect_left(BUCKETS_S, seconds)] += 1
            self._seconds[key] = self._seconds.get(key, 0.0) + seconds

    def snapshot(self) -> list[Count]:
        """Return what was counted so far, ordered by route, method and status."""
        with self._lock:
            return [
                Count(
                    route=key[0],
                    method=key[1],
                    status=key[2],
                    within=tuple(zip(BUCKETS_S, accumulate(buckets), strict=False)),
                    count=sum(buckets),
                    seconds=self._seconds[key],
                )
                for key, buckets in sorted(self._buckets.items())
            ]
