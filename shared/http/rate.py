"""How often a client may ask one instance: so many requests a second, with two seconds' worth at once.

The generic cell rate algorithm: of each client one number is kept, the time up to which its requests are
spent. (The package `limits` does this too, and costs 55 ms of every cold start.)
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

#: Seconds whose requests may come all at once.
BURST_S = 2.0
#: Clients that are remembered; who asked longest ago is forgotten first, and begins anew.
MOST_CLIENTS = 10_000


class RateLimit:
    """A limit for each client; safe to share between threads."""

    def __init__(
        self, per_second: float, *, burst_s: float = BURST_S, most_clients: int = MOST_CLIENTS
    ) -> None:
        self._interval_s = 1 / per_second
        # One request is always allowed to somebody who has not asked for long, however small the rate.
        self._ahead_s = max(burst_s - self._interval_s, 0.0)
        self._most_clients = most_clients
        self._spent_until_s: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str, now_s: float | None = None) -> float:
        """Count a request; returns 0, or the seconds to wait where it is one too many, and not counted."""
        now = time.monotonic() if now_s is None else now_s
        with self._lock:
            spent = max(self._spent_until_s.get(client, now), now)
            if spent - now > self._ahead_s:
                return spent - now - self._ahead_s
            self._spent_until_s[client] = spent + self._interval_s
            self._spent_until_s.move_to_end(client)
            if len(self._spent_until_s) > self._most_clients:
                self._spent_until_s.popitem(last=False)
            return 0.0
