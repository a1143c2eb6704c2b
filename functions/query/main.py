"""query: answers what the fleet did, from a consistent view of the store."""

from __future__ import annotations

from functools import cache

import functions_framework
from flask import Request, Response

from functions.query.rest import Rest
from shared import clock
from shared.http import EtcdHolder, Service, start
from shared.keys import Keys
from shared.store.gpus import Gpus
from shared.store.read import Store

_config = start("query")
_etcd = EtcdHolder(_config)


@cache
def _store() -> Store:
    return Store(_etcd(), Keys(_config.message_queue_prefix))


@cache
def _gpus() -> Gpus:
    return Gpus(_store())


_rest = Rest(_store, _gpus, clock.now_ms, _config.stale_after)
_service = Service("query", _rest.routes(), _etcd)


@functions_framework.http
def query(request: Request) -> Response:
    """Answer a request to the query function."""
    return _service(request)
