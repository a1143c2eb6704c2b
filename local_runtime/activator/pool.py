"""Connections to instances: made anew, or used again where that cannot do harm.

A server may close a connection that rests in the very moment in which the next request is sent on it, and
nobody knows then whether that was heard. So only requests that change nothing (RFC 9110, 9.2.1) and have no
body go over one that was used before, at most half a second later (gunicorn closes it after two seconds), and
are sent once more, over a new one, where it broke before a byte came back. A small answer takes a third less
work so.
"""

from __future__ import annotations

import asyncio
from collections import deque

from local_runtime.activator.upstream import Upstream

#: Seconds for which a connection may rest.
_REST_S = 0.5
#: Connections that rest, to one address.
_MOST_RESTING = 32

Address = tuple[str, int]


class Pool:
    """The connections of one activator to its instances."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: Of each address, with the time until which they rest, in order.
        self._resting: dict[Address, deque[tuple[float, Upstream]]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def take(self, address: Address, *, may_be_used: bool) -> Upstream:
        """Take a connection, one that was used before where there is one and it may be.

        Raises:
            OSError: There is nobody to connect to; nothing was sent.
        """
        resting = self._resting.get(address) if may_be_used else None
        while resting:
            ends_s, upstream = resting.pop()
            if ends_s > self._loop.time() and upstream.is_usable:
                upstream.use_again()
                return upstream
            upstream.abort()
        return await self.connect(address)

    async def connect(self, address: Address) -> Upstream:
        """Make a new connection.

        Raises:
            OSError: There is nobody to connect to; nothing was sent.
        """
        _, upstream = await self._loop.create_connection(lambda: Upstream(self._loop), *address)
        return upstream

    def give_back(self, address: Address, upstream: Upstream, *, may_rest: bool) -> None:
        """End the use of a connection: let it rest, if it is as good as new, or close it."""
        resting = self._resting.setdefault(address, deque()) if may_rest and upstream.is_usable else None
        if resting is None or len(resting) >= _MOST_RESTING:
            upstream.abort()
            return
        resting.append((self._loop.time() + _REST_S, upstream))
        if self._sweep is None:
            self._sweep = self._loop.call_later(_REST_S, self._close_rested)

    def close(self) -> None:
        """Close all that rest."""
        if self._sweep is not None:
            self._sweep.cancel()
        for resting in self._resting.values():
            for _, upstream in resting:
                upstream.abort()
        self._resting.clear()

    def _close_rested(self) -> None:
        now_s = self._loop.time()
        for address, resting in [*self._resting.items()]:
            while resting and resting[0][0] <= now_s:
                resting.popleft()[1].abort()
            if not resting:
                del self._resting[address]
        first_s = min((resting[0][0] for resting in self._resting.values()), default=None)
        self._sweep = None if first_s is None else self._loop.call_at(first_s, self._close_rested)
