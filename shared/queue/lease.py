"""The lease that a worker binds its claims to."""

from __future__ import annotations

import logging
import time

from shared.errors import PipelineError
from shared.etcd import Etcd

log = logging.getLogger(__name__)


class Lease:
    """The lease that one worker binds its claims to; one per thread, renewed as it works.

    A worker that hangs does not renew, and its messages go back to the queue.
    """

    def __init__(self, etcd: Etcd, ttl_s: float) -> None:
        self._etcd = etcd
        self._ttl_s = int(ttl_s)
        self._id = 0
        self._until = 0.0

    def renewed(self) -> int:
        """Return the id of a lease with at least half its time left, granting or renewing as needed."""
        now = time.monotonic()
        if self._id and self._until - now > self._ttl_s / 2:
            return self._id
        if self._id and self._until > now:
            left_s = self._etcd.lease_keepalive(self._id)
            if left_s > 0:
                self._until = now + left_s
                return self._id
        self._id = self._etcd.lease_grant(self._ttl_s)
        self._until = now + self._ttl_s
        return self._id

    def forget(self) -> int:
        """Stop using the lease: the next use grants another. Returns its id, 0 where there was none."""
        lease, self._id = self._id, 0
        return lease

    def give_back(self) -> None:
        """Revoke the lease, so that whatever is claimed under it is free at once; never fails."""
        lease = self.forget()
        if lease:
            try:
                self._etcd.lease_revoke(lease)
            except PipelineError:
                log.info("could not revoke a lease; it ends by itself", extra={"action": "lease_left"})
