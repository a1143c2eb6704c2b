"""Draining: which messages a request takes, and how many threads move them.

An event from the queue source names its messages. A cron tick, or a request by hand, takes what waits and
falls to it (shared/queue/collectors.py), so that ten ticks do not fight over the same messages.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from functions.collect.move import Done, Mover, plan_moves
from shared.queue import Collector, Queue, ReadyMessage

#: Moves something, unless the time is up.
Work = Callable[[], Done]


class Drain:
    """Moves messages with a pool of threads, each with a mover of its own; safe to share."""

    def __init__(self, queue: Queue, make_mover: Callable[[], Mover], workers: int) -> None:
        self._queue = queue
        self._make_mover = make_mover
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mover")

    def take(self, messages: Sequence[ReadyMessage], budget_s: float, earliest_day: str = "") -> Done:
        """Move these messages; those that others hold, or for which no time is left, stay.

        Args:
            messages: As they were told or listed.
            budget_s: Seconds after which no further move is begun.
            earliest_day: What is older is filed under this ingestion day.

        Raises:
            Transient: etcd is away. What was moved is moved; the rest is in the queue.
        """
        deadline = time.monotonic() + budget_s
        moves = plan_moves([m.filed_from(earliest_day) for m in messages])
        return self._run([partial(self._move, move, deadline) for move in moves])

    def _move(self, messages: list[ReadyMessage], deadline: float) -> Done:
        if time.monotonic() > deadline:
            return Done(lost=len(messages))
        return self._mover().move(messages)

    def _mover(self) -> Mover:
        """Return the mover of this thread."""
        if not hasattr(self._own, "mover"):
            self._own.mover = self._make_mover()
        mover: Mover = self._own.mover
        return mover

    def _run(self, work: Sequence[Work]) -> Done:
        """Do work in the pool, one piece too: more moves at a time than cores only take turns."""
        total = Done()
        running = [self._pool.submit(do) for do in work]
        failed: Exception | None = None
        for future in running:
            try:
                total.add(future.result())
            except Exception as exc:  # noqa: BLE001  (raised below, once all have ended)
                failed = exc
        if failed is not None:
            raise failed
        return total

    def take_all(self, budget_s: float, earliest_day: str = "") -> Done:
        """Move what waits and nobody holds, until nobody is needed for the rest or the time is up.

        Beside others that do the same each takes its own part. One whose part is done looks after the
        others: what falls to one that has died, or does nothing, it takes too. The arguments are those of
        `take`.

        Raises:
            Transient: etcd is away. What was moved is moved; the rest is in the queue.
        """
        deadline = time.monotonic() + budget_s
        total = Done()
        if not self._queue.list_ready(limit=1):
            return total
        with self._queue.joined() as me:
            while time.monotonic() < deadline:
                left = self._sweep(me, total, deadline, earliest_day)
                others = me.wait_for(left, deadline) if left else "working"
                if others == "silent":
                    self._sweep(me, total, deadline, earliest_day, all_mine=True)
                if others != "changed":
                    break
        return total

    def _sweep(
        self, me: Collector, total: Done, deadline: float, earliest_day: str, *, all_mine: bool = False
    ) -> dict[str, str]:
        """Take what is mine, page by page; returns whom the rest falls to, each with a message of it."""
        left: dict[str, str] = {}
        after = ""
        while time.monotonic() < deadline:
            look = me.look(after, all_mine=all_mine)
            if not look.last:
                break
            first, after = after, look.last + "\0"
            while look.mine and time.monotonic() < deadline:
                moves = plan_moves(look.mine)
                # Where another has a different idea of who is there, not both begin at the same end.
                turn = random.randrange(len(moves))
                done = self._run([
                    partial(self._take_part, me, move, deadline, earliest_day, all_mine=all_mine)
                    for move in moves[turn:] + moves[:turn]
                ])  # fmt: skip
                total.add(done)
                look = me.look(first, look.last or after, all_mine=all_mine)
                if not (done.messages or done.buried or done.released):
                    break
            left |= look.others
        return left

    def _take_part(
        self,
        me: Collector,
        messages: list[ReadyMessage],
        deadline: float,
        earliest_day: str,
        *,
        all_mine: bool,
    ) -> Done:
        """Move what of these is still free and mine: since they were listed others may have come."""
        done = Done()
        if time.monotonic() > deadline:
            return done
        wanted = {m.id for m in messages}
        now = me.look(messages[0].id, messages[-1].id, all_mine=all_mine).mine
        for move in plan_moves([m.filed_from(earliest_day) for m in now if m.id in wanted]):
            done.add(self._mover().move(move, me.id))
        return done
