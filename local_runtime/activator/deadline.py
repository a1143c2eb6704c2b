"""How long a request may wait, work and stand still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """A revision's limits, in seconds."""

    #: For the whole request, waiting included.
    request_s: float
    #: From its way to an instance until an answer begins.
    response_start_s: float | None = None
    #: Without a byte, either way, once it is with an instance.
    idle_s: float | None = None


class Deadline:
    """Ends a block with TimeoutError when the first of a request's limits is reached."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._end_s = self._loop.time() + timeouts.request_s
        self._first_s = self._end_s
        self._timeouts = timeouts
        self._timeout = asyncio.timeout_at(self._end_s)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, exc, trace)

    def dispatched(self) -> None:
        """Note that the request is on its way to an instance."""
        if self._timeouts.response_start_s is not None:
            self._first_s = min(self._end_s, self._loop.time() + self._timeouts.response_start_s)
            self._reschedule(self._first_s)
        self.moved()

    def answered(self) -> None:
        """Note that an answer has begun."""
        if self._first_s != self._end_s:
            self._first_s = self._end_s
            self._reschedule(self._end_s)
        self.moved()

    def moved(self) -> None:
        """Note that some bytes moved."""
        if self._timeouts.idle_s is not None:
            self._reschedule(min(self._first_s, self._loop.time() + self._timeouts.idle_s))

    def _reschedule(self, when_s: float) -> None:
        if not self._timeout.expired():
            self._timeout.reschedule(when_s)
