"""What a tick does besides draining: finish what was begun, sweep, compact, and keep etcd in shape.

Each part is bounded, safe to kill, and independent of the others: one that fails is logged, and the others
are done. First comes what makes space, since without space nothing else can be done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from shared.config import Settings
from shared.errors import PipelineError
from shared.etcd import Etcd, Put
from shared.keys import Keys
from shared.store.compaction import Compactor
from shared.store.read import Store
from shared.store.replace import sweep_pending
from shared.store.retention import Day, Retention, decide_cutoff
from shared.store.ticks import Clock, build_clock, decide_history, disagrees, may_sweep, parse_clock, tick
from shared.store.upkeep import keep_up
from shared.undo import Undo

log = logging.getLogger(__name__)

#: Seconds that a tick spends on undoing uploads, and on compaction.
_UNDO_S, _COMPACT_S = 20.0, 20.0
_DOUBT = "the clocks of the last ticks do not agree, or there were too few: nothing is swept for now"


class Housekeeping:
    """The housekeeping of one pipeline; any number may run at once, one is enough."""

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        store: Store,
        config: Settings,
        *,
        quota_bytes: Callable[[], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._config = config
        self._quota_bytes = quota_bytes
        self._now_ms = now_ms
        self._retention = Retention(etcd, keys, store, config.retention)
        self._undo = Undo(etcd, keys, store, now_ms)
        self.compactor = Compactor(etcd, keys, store, now_ms)

    def tick(self, event_ms: int | None = None) -> None:
        """Do what is due.

        Args:
            event_ms: When the source of the tick says it is, by a clock that is not ours.

        Raises:
            Exception: A part failed, the first of those that did; the others were done.
        """
        now_ms = self._now_ms()
        now = tick(self._read_clock(), now_ms, self._etcd.status().revision, event_ms)
        sweep = self._retention.sweep_unattended if event_ms is None else self._retention.sweep
        failed: list[Exception] = []
        for part in (
            lambda: self._keep_up(now),
            lambda: self._sweep_if(may_sweep(now, now_ms), sweep),
            lambda: self._undo.go_on(_UNDO_S),
            lambda: self.compactor.compact(_COMPACT_S),
            lambda: sweep_pending(self._etcd, self._keys, self._now_ms()),
            lambda: self._etcd.txn([], [Put(self._keys.store_clock, build_clock(now))]),
        ):
            try:
                part()
            except PipelineError as exc:
                log.warning("a part of the tick failed: %s", exc, extra={"action": "tick_failed"})
                failed.append(exc)
            except Exception as exc:
                log.exception("a part of the tick has a defect", extra={"action": "tick_failed"})
                failed.append(exc)
        if failed:
            raise failed[0]

    def survey(self) -> dict[str, Any]:
        """Tell what retention keeps, and what a sweep would delete."""
        now_ms = self._now_ms()
        days = [asdict(day) for day in self._retention.survey(now_ms)]
        return {"retention": self._config.retention, "cutoff_day": self._cutoff(now_ms), "days": days}

    def sweep(self) -> dict[str, Any]:
        """Sweep now, unless the clock disagrees with the last tick's; tells what went."""
        trusted = not disagrees(self._read_clock(), self._now_ms())
        swept = self._sweep_if(trusted, self._retention.sweep)
        return {
            "retention": self._config.retention,
            "cutoff_day": self._cutoff(self._now_ms()),
            "days": [asdict(day) for day in swept],
            "note": "" if trusted else _DOUBT,
        }

    def _cutoff(self, now_ms: int) -> str | None:
        return decide_cutoff(self._config.retention, now_ms) or None

    def _read_clock(self) -> Clock:
        found = self._etcd.get(self._keys.store_clock)
        return parse_clock(None if found is None else found.value)

    def _keep_up(self, clock: Clock) -> None:
        history = decide_history(clock, self._now_ms())
        keep_up(self._etcd, self._config.etcd_maintenance, self._quota_bytes(), history)

    def _sweep_if(self, trusted: bool, sweep: Callable[[int], list[Day]]) -> list[Day]:
        if not trusted:
            log.info(_DOUBT, extra={"action": "clock_doubted"})
            return []
        swept = sweep(self._now_ms())
        for day in swept:
            log.info("retention: %s is gone", day.day, extra={"action": "expired", **asdict(day)})
        return swept
