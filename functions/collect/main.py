"""collect: moves messages from the queue into the store; woken by the queue source and by cron."""

from __future__ import annotations

import itertools
import logging
from dataclasses import asdict
from functools import cache

import functions_framework
from flask import Request, Response

import shared.boot  # noqa: F401  (before all others)
from functions.collect.drain import Drain
from functions.collect.events import MESSAGES_TYPE, Event, decide_earliest_day, parse_messages, read_event
from functions.collect.housekeeping import Housekeeping
from functions.collect.move import Done, Mover
from shared import clock
from shared.api import collect as api
from shared.api.endpoint import ROWS, Parameters
from shared.errors import Transient
from shared.http import Counts, EtcdHolder, Route, Service, data_response, report_response, start
from shared.http.metrics import metrics_route
from shared.keys import Keys
from shared.queue import Queue
from shared.queue.gate import Gauge
from shared.store.read import Store

log = logging.getLogger(__name__)

#: Seconds one request works; what is left then stays in the queue for the next.
BUDGET_S = 25.0
#: What is read to be folded is folded at once: nothing much is worth keeping.
_CACHE_BYTES = 4 * 1024 * 1024

#: Events after which this instance looks whether something is worth folding: as many make one fold.
_FOLD_EVERY = 8

_config = start("collect")
_moves = itertools.count(1)
_etcd = EtcdHolder(_config)
_counts = Counts()
_keys = Keys(_config.message_queue_prefix)


@cache
def _queue() -> Queue:
    return Queue(_etcd(), _keys)


@cache
def _drain() -> Drain:
    def make_mover() -> Mover:
        return Mover(_etcd(), _keys, _queue(), _config.visibility_timeout, _config.max_attempts)

    return Drain(_queue(), make_mover, _config.collect_workers)


@cache
def _housekeeping() -> Housekeeping:
    store = Store(_etcd(), _keys, _CACHE_BYTES)
    gauge = Gauge(_etcd(), _queue(), _config.endpoints(), _config.etcd_quota_bytes)
    return Housekeeping(
        _etcd(),
        _keys,
        store,
        _config,
        quota_bytes=gauge.read_quota,
        now_ms=clock.now_ms,
    )


def _take(event: Event) -> Done:
    """Take what an event names; one that names nothing is a tick: everything that waits, and the house."""
    earliest_day = decide_earliest_day(clock.now_ms(), event.at_ms)
    if event.kind == MESSAGES_TYPE:
        done = _drain().take(parse_messages(event.data), BUDGET_S, earliest_day)
        if next(_moves) % _FOLD_EVERY == 0:
            _housekeeping().compactor.fold_some()
        return done
    try:
        done = _drain().take_all(BUDGET_S, earliest_day)
    except Transient:
        raise  # etcd is away: the house would only wait for it again
    except Exception:
        # Above all where there is no space: it is the tick that makes some.
        _housekeeping().tick(event.at_ms)
        raise
    _housekeeping().tick(event.at_ms)
    return done


def _log(done: Done, kind: str) -> None:
    if done.messages or done.buried or done.lost:
        log.info(
            "moved %d messages, %d rows, into %d segments",
            done.messages,
            done.rows,
            done.segments,
            extra={"action": "collected", "event": kind, **asdict(done)},
        )


def _event(request: Request, _wanted: Parameters) -> Response:
    """Take an event or a plain POST: 204, because a body would be taken for a reply event."""
    event = read_event(request)
    done = _take(event)
    _log(done, event.kind or "plain")
    return Response(status=204, headers={ROWS: str(done.rows)})


def _by_hand(request: Request, _wanted: Parameters) -> Response:
    """Drain the queue as far as the time goes and answer what was done; keeps no house."""
    read_event(request)
    done = _drain().take_all(BUDGET_S)
    _log(done, "by hand")
    return report_response({**asdict(done), "depth": _queue().depth_now()}, done.rows)


def _build_further() -> list[Route]:
    """Build what a start from zero for an event does not wait for."""
    from functions.collect import dead  # noqa: PLC0415
    from shared.queue.dead import DeadLetters  # noqa: PLC0415

    return dead.build_routes(lambda: DeadLetters(_etcd(), _keys))


_service = Service(
    "collect",
    [
        Route(api.EVENT, _event),
        Route(api.COLLECT, _by_hand),
        Route(api.SHOW_RETENTION, lambda _request, _wanted: data_response(_housekeeping().survey())),
        Route(api.SWEEP, lambda _request, _wanted: data_response(_housekeeping().sweep())),
        metrics_route("collect", _counts.snapshot),
    ],
    _etcd,
    _config,
    _counts,
    build_further=_build_further,
)


@functions_framework.http
def collect(request: Request) -> Response:
    """Answer a request to the collect function."""
    return _service(request)
