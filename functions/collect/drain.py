"""Draining: which messages a request takes, and how many threads move them.

An event from the queue source names its messages. A cron tick, or a request by hand, takes what waits: from
a random place in the queue, so that ten ticks do not fight over its head.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from functions.collect.move import Done, Mover, plan_moves
from shared.queue import PAGE, Queue, ReadyMessage

log = logging.getLogger(__name__)


class Drain:
    """Moves messages with a pool of threads, each with a mover of its own; safe to share."""

    def __init__(self, queue: Queue, make_mover: Callable[[], Mover], workers: int) -> None:
        self._queue = queue
        self._make_mover = make_mover
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mover")

    def _move(self, messages: list[ReadyMessage], deadline: float) -> Done:
        if time.monotonic() > deadline:
            return Done(lost=len(messages))
        if not hasattr(self._own, "mover"):
            self._own.mover = self._make_mover()
        mover: Mover = self._own.mover
        return mover.move(messages)

    def take(self, messages: Sequence[ReadyMessage], budget_s: float) -> Done:
        """Move these messages; those that others hold, or for which no time is left, stay.

        Raises:
            Transient: etcd is away. What was moved is moved; the rest is in the queue.
        """
        return self._run(plan_moves(messages), time.monotonic() + budget_s)

    def _run(self, moves: Sequence[list[ReadyMessage]], deadline: float) -> Done:
        total = Done()
        if len(moves) == 1:
            total.add(self._move(moves[0], deadline))
            return total
        running = [self._pool.submit(self._move, move, deadline) for move in moves]
        failed: Exception | None = None
        for future in running:
            try:
                total.add(future.result())
            except Exception as exc:  # noqa: BLE001  (raised below, once all have ended)
                failed = exc
        if failed is not None:
            raise failed
        return total

    def take_all(self, budget_s: float) -> Done:
        """Move whatever waits and nobody holds, page by page, until none is left or the time is up."""
        deadline = time.monotonic() + budget_s
        total = Done()
        after = ""
        while time.monotonic() < deadline:
            page = self._queue.list_ready(after=after)
            if not page:
                break
            after = page[-1].id
            held = self._queue.claimed()
            free = [m for m in page if m.id not in held]
            if free:
                moves = plan_moves(free)
                turn = random.randrange(len(moves))
                total.add(self._run(moves[turn:] + moves[:turn], deadline))
            if len(page) < PAGE:
                break
        return total
