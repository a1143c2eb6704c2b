"""Locks that save double work; where two hold one nothing is wrong: transactions have their conditions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import PipelineError
from shared.etcd import Etcd, Put, absent
from shared.keys import Keys

log = logging.getLogger(__name__)


@contextmanager
def held(etcd: Etcd, keys: Keys, name: str, ttl_s: int) -> Iterator[bool]:
    """Hold a lock, for as long as its lease lives at most; gives False at once where somebody else does."""
    lease = etcd.lease_grant(ttl_s)
    try:
        key = keys.lock(name)
        yield etcd.txn([absent(key)], [Put(key, b"", lease)]).succeeded
    finally:
        try:
            etcd.lease_revoke(lease)
        except PipelineError:
            log.info("could not revoke a lease; it ends by itself", extra={"action": "lease_left"})
