"""Who may go to which instance, and who waits: container concurrency, a bounded queue, the load of it all.

Nothing here knows of HTTP. Everything is called in one loop, so that nothing happens between two awaits.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from local_runtime.activator.balance import Choose, choose_balance

#: Requests that wait in front of no instance, or of one without a limit.
_LONGEST_QUEUE = 10_000
#: Requests that wait for each one that an instance may work on.
_WAITING_PER_PLACE = 10
#: The instances that are reckoned with where a service has no limit to them.
_UNLIMITED_SCALE = 10
#: Seconds for which an instance is left alone that could not be connected to: whoever watches it sees it end.
AVOIDED_S = 1.0


class QueueFull(Exception):
    """As many requests wait as may."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one revision allows."""

    #: Requests an instance works on at a time; 0: no limit.
    container_concurrency: int
    #: Instances there may be; 0: no limit.
    max_scale: int

    def queue_length(self, open_instances: int) -> int:
        """How many requests may wait."""
        if not open_instances or not self.container_concurrency:
            return _LONGEST_QUEUE
        return _WAITING_PER_PLACE * self.container_concurrency * (self.max_scale or _UNLIMITED_SCALE)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came in since the last reading."""

    #: Requests in flight and waiting, on average over the time.
    concurrency: float
    #: Requests that arrived.
    requests: int
    #: Rows that the functions said they handled.
    rows: int


@dataclass(eq=False, slots=True)
class _Instance:
    name: str
    address: tuple[str, int]
    in_flight: int = 0
    is_open: bool = True


class Lease:
    """The right to one place at one instance, until it is released."""

    __slots__ = ("_instance", "_is_held", "_throttle", "address", "name")

    def __init__(self, throttle: Throttle, instance: _Instance) -> None:
        self.name = instance.name
        self.address = instance.address
        self._throttle = throttle
        self._instance = instance
        self._is_held = True

    @property
    def is_open(self) -> bool:
        """Whether the instance gets new requests."""
        return self._instance.is_open

    def release(self) -> None:
        """Give the place to whoever waits longest; a second call does nothing."""
        if self._is_held:
            self._is_held = False
            self._throttle._give_back(self._instance)  # noqa: SLF001

    def fail(self) -> bool:
        """Release, and leave the instance alone for a while: it could not be connected to.

        Returns:
            Whether another one is open that may be tried.
        """
        self._throttle._avoid(self._instance)  # noqa: SLF001
        self.release()
        return self._throttle._has_choice()  # noqa: SLF001


class Throttle:
    """One revision's instances and the requests for them."""

    def __init__(
        self,
        limits: Limits,
        *,
        on_arrival: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it, with no instance open.

        Args:
            limits: What the revision allows.
            on_arrival: Called whenever a request begins to wait while no instance is open.
            clock: Seconds that only grow.
        """
        self.limits = limits
        #: Requests that instances work on.
        self.in_flight = 0
        self._on_arrival = on_arrival
        self._clock = clock
        self._open: list[_Instance] = []
        #: Closed ones that still have requests under way.
        self._closing: set[_Instance] = set()
        self._avoided: set[_Instance] = set()
        self._waiting: OrderedDict[asyncio.Future[Lease], None] = OrderedDict()
        self._choose: Choose[_Instance] = choose_balance(limits.container_concurrency)
        self._requests = self._rows = 0
        self._read_at = self._counted_at = clock()
        #: Seconds times requests since the last reading.
        self._area = 0.0

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def open_names(self) -> list[str]:
        """The instances that requests are routed to."""
        return [instance.name for instance in self._open]

    def open(self, name: str, address: tuple[str, int]) -> None:
        """Route requests to an instance from now on, those that wait first."""
        self.close(name)
        self._open.append(_Instance(name, address))
        self._dispatch()

    def close(self, name: str) -> None:
        """Route no new requests to an instance; those under way go on. Unknown names are nothing to close."""
        for instance in self._open:
            if instance.name == name:
                self._open.remove(instance)
                instance.is_open = False
                self._avoided.discard(instance)
                if instance.in_flight:
                    self._closing.add(instance)
                return

    def in_flight_of(self, name: str) -> int:
        """How many requests an instance works on, also one that was closed."""
        return sum(one.in_flight for one in (*self._open, *self._closing) if one.name == name)

    def add_rows(self, count: int) -> None:
        """Count rows that a function said it handled."""
        self._rows += count

    def read_load(self, now_s: float) -> Load:
        """Read the load since the last reading, and begin anew."""
        self._count(now_s)
        elapsed_s = now_s - self._read_at
        concurrency = self._area / elapsed_s if elapsed_s > 0 else float(self.in_flight + self.queued)
        load = Load(concurrency=concurrency, requests=self._requests, rows=self._rows)
        self._read_at, self._area, self._requests, self._rows = now_s, 0.0, 0, 0
        return load

    async def acquire(self) -> Lease:
        """Wait for a place at an instance, behind everybody who waits already.

        Cancelled, it leaves no trace.

        Raises:
            QueueFull: Too many wait.
        """
        self._requests += 1
        return await self._acquire(is_first=False)

    async def acquire_again(self) -> Lease:
        """Wait for a place after one that could not be used, before everybody who waits."""
        return await self._acquire(is_first=True)

    async def _acquire(self, *, is_first: bool) -> Lease:
        # One is free only when nobody waits: whatever becomes free is dispatched at once.
        instance = self._choose_free()
        if instance is not None:
            self._count()
            return self._lease(instance)
        if len(self._waiting) >= self.limits.queue_length(len(self._open)) and not is_first:
            raise QueueFull
        self._count()
        turn: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        if is_first:
            self._waiting.move_to_end(turn, last=False)
        try:
            if not self._open:
                self._on_arrival()
            return await turn
        except BaseException:
            self._leave(turn)
            raise

    def _leave(self, turn: asyncio.Future[Lease]) -> None:
        """Take somebody out of the queue, or back what he was handed in the same moment."""
        if turn in self._waiting:
            self._count()
            del self._waiting[turn]
        elif turn.done() and not turn.cancelled():
            turn.result().release()

    def _choose_free(self) -> _Instance | None:
        if not self._avoided:
            return self._choose(self._open)
        return self._choose([instance for instance in self._open if instance not in self._avoided])

    def _lease(self, instance: _Instance) -> Lease:
        instance.in_flight += 1
        self.in_flight += 1
        return Lease(self, instance)

    def _dispatch(self) -> None:
        """Give free places to those who wait, the longest first."""
        self._count()
        while self._waiting:
            instance = self._choose_free()
            if instance is None:
                return
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():  # or it was cancelled, and its task has yet to notice
                turn.set_result(self._lease(instance))

    def _give_back(self, instance: _Instance) -> None:
        self._count()
        instance.in_flight -= 1
        self.in_flight -= 1
        if not instance.in_flight:
            self._closing.discard(instance)
        self._dispatch()

    def _avoid(self, instance: _Instance) -> None:
        if instance.is_open and instance not in self._avoided:
            self._avoided.add(instance)
            asyncio.get_running_loop().call_later(AVOIDED_S, self._allow, instance)

    def _allow(self, instance: _Instance) -> None:
        self._avoided.discard(instance)
        self._dispatch()

    def _has_choice(self) -> bool:
        return any(instance not in self._avoided for instance in self._open)

    def _count(self, now_s: float | None = None) -> None:
        """Add up what was until now; called before each change."""
        now_s = self._clock() if now_s is None else now_s
        self._area += (self.in_flight + len(self._waiting)) * (now_s - self._counted_at)
        self._counted_at = now_s
