"""PingSource: cron that sends CloudEvents, with the timing and the retries of Knative's own."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from local_runtime.cron import Schedule
from local_runtime.manifests import PingSource
from shared import clock
from shared.cloudevents import PING_TYPE, build_event_headers, build_extension_headers
from shared.errors import BadConfig
from shared.tokens import ROLES_OF_SOURCES, TokenFile

#: Waits before the second to the sixth attempt; then the tick is lost.
RETRY_DELAYS_S = (0.1, 0.2, 0.4, 0.8, 1.6)
RETRIED_STATUSES = frozenset({404, 413, 425, 429, 502, 503, 504})
#: Sources that fire at the same second do not all post at once.
LONGEST_JITTER_S = 0.5
#: Ticks may overlap, but a function that hangs must not be given any number of them.
MOST_UNDER_WAY = 100
#: How much longer than the function may take its answer is waited for: "it took too long" is an answer too.
_ANSWER_MARGIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A PingSource that is ready to fire."""

    name: str
    schedule: Schedule
    url: str
    #: What its events say they are from.
    source: str
    #: Headers every event carries besides.
    headers: dict[str, str]
    body: bytes
    #: How long one attempt may take, as long as the function that is called may.
    timeout_s: float


def parse_cron(source: PingSource, url: str, *, timeout_s: float) -> Cron:
    """Check a PingSource and make it ready to fire at an address.

    Raises:
        BadConfig: Names the source and what is wrong.
    """
    name, spec = source.metadata.name, source.spec
    try:
        body = spec.read_body()
        return Cron(
            name=name,
            schedule=spec.read_schedule(),
            url=url,
            source=f"/apis/v1/namespaces/{source.metadata.namespace}/pingsources/{name}",
            headers={
                # An event without data has no type of it.
                **({"content-type": spec.content_type} if body and spec.content_type else {}),
                **build_extension_headers(spec.ce_overrides.extensions),
            },
            body=body,
            timeout_s=timeout_s,
        )
    except ValueError as exc:
        raise BadConfig(f"PingSource {name}: {exc}") from exc


def decide_retry_s(attempt: int, status: int | None) -> float | None:
    """Decide how long to wait before another attempt; None: do not try again.

    Args:
        attempt: Attempts made so far, at least 1.
        status: What was answered; None when nothing was.
    """
    if status is not None and status not in RETRIED_STATUSES:
        return None
    return RETRY_DELAYS_S[attempt - 1] if attempt <= len(RETRY_DELAYS_S) else None


class Poster:
    """Posts events; made, used and closed in a loop. Ticks may overlap.

    `fire` when a tick is due, `stop` before the functions are stopped, and `close` after it: answers have
    come, or never will.
    """

    def __init__(self, report: Callable[[str, str], None], tokens: TokenFile | None = None) -> None:
        """Make a poster.

        Args:
            report: Told (name, sentence) of a tick that was lost.
            tokens: Where the token is from that events carry; None: they carry none.
        """
        self._report = report
        self._tokens = tokens
        self._stopping = False
        # An event without data has no type, which aiohttp would guess.
        self._http = aiohttp.ClientSession(skip_auto_headers=["Content-Type"])
        self._under_way: set[asyncio.Task[None]] = set()

    def fire(self, cron: Cron) -> None:
        """Post one event and return at once."""
        if self._stopping:
            return
        if len(self._under_way) >= MOST_UNDER_WAY:
            self._report(cron.name, f"tick lost: {MOST_UNDER_WAY} before it have not been answered yet")
            return
        task = asyncio.get_running_loop().create_task(self._post(cron))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def stop(self) -> None:
        """Make no further attempt; requests under way are left to the functions, which finish them."""
        self._stopping = True

    async def close(self) -> None:
        """Break off what is still under way."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._http.close()

    async def _post(self, cron: Cron) -> None:
        await asyncio.sleep(random.uniform(0, LONGEST_JITTER_S))
        event = build_event_headers(PING_TYPE, cron.source, str(uuid.uuid4()), clock.now_s())
        for attempt in itertools.count(1):
            if self._stopping:
                return
            status, outcome = await self._attempt(cron, {**cron.headers, **event})
            if status is not None and status < 300:  # noqa: PLR2004
                return
            delay_s = decide_retry_s(attempt, status)
            if delay_s is None:
                break
            await asyncio.sleep(delay_s)
        if not self._stopping:
            self._report(cron.name, f"tick lost after {attempt} attempt{'s' * (attempt > 1)}: {outcome}")

    async def _attempt(self, cron: Cron, headers: dict[str, str]) -> tuple[int | None, str]:
        timeout = aiohttp.ClientTimeout(sock_connect=5.0, sock_read=cron.timeout_s + _ANSWER_MARGIN_S)
        try:
            own = {} if self._tokens is None else self._tokens.headers(*ROLES_OF_SOURCES)
            async with self._http.post(
                cron.url, data=cron.body, headers={**headers, **own}, timeout=timeout, allow_redirects=False
            ) as answer:
                return answer.status, f"{cron.url} answered {answer.status}"
        except BadConfig as exc:  # there is no token any more
            return None, exc.message
        except (aiohttp.ClientError, TimeoutError) as exc:
            return None, f"{cron.url} cannot be reached ({type(exc).__name__})"


class Ticker:
    """Fires crons when they are due; ticks that were missed are not caught up."""

    def __init__(self, crons: Sequence[Cron], fire: Callable[[Cron], None]) -> None:
        self._crons = crons
        self._fire = fire
        self._next_s: dict[str, float] = {}
        self._now_s = 0.0

    def begin(self, now_s: float) -> None:
        """Begin to wait, at a time in epoch seconds."""
        self._now_s = now_s
        self._next_s = {cron.name: cron.schedule.next_tick_s(now_s) for cron in self._crons}

    def tick(self, now_s: float) -> None:
        """Fire every cron that is due."""
        if now_s < self._now_s:  # the clock was put back: what was due then may be an hour away
            self.begin(now_s)
        self._now_s = now_s
        for cron in self._crons:
            if now_s >= self._next_s[cron.name]:
                self._fire(cron)
                self._next_s[cron.name] = cron.schedule.next_tick_s(now_s)
