"""Probes of an instance, asked again and again as its manifest says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import aiohttp

from local_runtime.manifests import Probe, ReadinessProbe

#: As Knative probes until an instance is ready for the first time.
STARTING_PERIOD_S = 0.05
#: Kubernetes' pace, where a readiness probe leaves that to Knative.
_PERIOD_S, _TIMEOUT_S, _FAILURES = 10.0, 1.0, 3


class Probing:
    """One probe of one instance; `tick` never waits."""

    def __init__(self, probe: Probe, ask: Callable[[], Awaitable[bool]], now_s: float) -> None:
        """Begin.

        Args:
            probe: How often, and how many times decide.
            ask: Tells whether the instance is well; never raises.
            now_s: When its process starts, monotonic.
        """
        self._probe = probe
        self._ask = ask
        is_eager = isinstance(probe, ReadinessProbe)
        #: How often it is asked until it was well once.
        self._starting_s = STARTING_PERIOD_S if is_eager else self._period_s()
        self._next_s = now_s + max(probe.initial_delay_s, 0.0 if is_eager else self._starting_s)
        self._task: asyncio.Task[bool] | None = None
        self._successes = 0
        self._failures = 0
        self.has_passed = False

    @property
    def has_failed(self) -> bool:
        """Whether it failed so often in a row that it counts."""
        return self._failures >= (self._probe.failure_threshold or _FAILURES)

    def tick(self, now_s: float) -> None:
        """Take the answer to the last question, and ask again when it is time."""
        if self._task is not None:
            if not self._task.done():
                return
            self._note(is_well=self._task.result())
            self._task = None
            self._next_s = now_s + (self._period_s() if self.has_passed else self._starting_s)
        if now_s >= self._next_s:
            self._task = asyncio.ensure_future(self._ask_in_time())

    def cancel(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _period_s(self) -> float:
        return self._probe.period_s or _PERIOD_S

    async def _ask_in_time(self) -> bool:
        try:
            return await asyncio.wait_for(self._ask(), self._probe.timeout_s or _TIMEOUT_S)
        except TimeoutError:
            return False

    def _note(self, *, is_well: bool) -> None:
        self._successes = self._successes + 1 if is_well else 0
        self._failures = 0 if is_well else self._failures + 1
        self.has_passed = self.has_passed or self._successes >= self._probe.success_threshold


class ProbeClient:
    """Asks instances whether they are well; an async context manager."""

    async def __aenter__(self) -> Self:
        # A connection of its own each time: an idle one would say nothing of a server that accepts no more.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, probe: Probe, address: tuple[str, int]) -> bool:
        """Ask by HTTP (well: 2xx or 3xx) or by connecting; never raises."""
        host, port = address
        # ValueError: a header that cannot be sent.
        with contextlib.suppress(OSError, aiohttp.ClientError, ValueError):
            if probe.http_get is None:
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return True
            url = f"http://{host}:{port}/{probe.http_get.path.removeprefix('/')}"
            headers = [(header.name, header.value) for header in probe.http_get.http_headers]
            async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                return answer.status < 400  # noqa: PLR2004
        return False
