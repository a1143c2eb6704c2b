"""The lease that a worker binds its claims to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import PipelineError
from shared.etcd import Etcd

log = logging.getLogger(__name__)

#: For how many times its own length a lease is extended for one piece of work: longer than that hangs.
MAX_EXTENSIONS = 10
#: Seconds after which an extension is tried again that etcd did not answer.
_RETRY_S = 0.5


class Lease:
    """The lease that one worker binds its claims to; one per thread, renewed as it works.

    While it is held a thread of its own extends it at a third of its time, so that slow work keeps its
    claims: for at most MAX_EXTENSIONS times its length, so that a worker that hangs does not hold messages
    for ever. A process that dies holds nothing: the lease ends, and the messages are free again.
    """

    def __init__(self, etcd: Etcd, ttl_s: float) -> None:
        self._etcd = etcd
        self._ttl_s = int(ttl_s)
        self._id = 0
        self._until = 0.0
        self._lock = threading.Lock()
        self._held_since: float | None = None
        self._keeping = False

    def renewed(self) -> int:
        """Return the id of a lease with two thirds of its time left, granting or renewing as needed."""
        now = time.monotonic()
        if self._id and self._until - now > self._ttl_s * 2 / 3:
            return self._id
        if self._id and self._until > now and self._extend(self._id):
            return self._id
        self._id = self._etcd.lease_grant(self._ttl_s)
        self._until = now + self._ttl_s
        return self._id

    @contextmanager
    def held(self) -> Iterator[None]:
        """Extend the lease for the length of a `with` block; whatever it is by then, granted or not."""
        with self._lock:
            self._held_since = time.monotonic()
            if not self._keeping:
                self._keeping = True
                threading.Thread(target=self._keep, name="lease", daemon=True).start()
        try:
            yield
        finally:
            self._held_since = None

    def _keep(self) -> None:
        """Extend what is held, until nothing was held when it was time to."""
        pause_s = self._ttl_s / 3
        let_go: float | None = None
        while True:
            threading.Event().wait(pause_s)
            with self._lock:
                since, lease = self._held_since, self._id
                if since is None:
                    self._keeping = False
                    return
            pause_s = self._ttl_s / 3
            if not lease:
                continue
            if time.monotonic() - since > MAX_EXTENSIONS * self._ttl_s:
                if let_go != since:
                    log.warning("work takes too long: it is let go", extra={"action": "lease_let_go"})
                let_go = since
                continue
            try:
                self._extend(lease)
            except PipelineError:
                pause_s = min(_RETRY_S, pause_s)

    def _extend(self, lease: int) -> bool:
        """Renew a lease; False where it is gone."""
        now = time.monotonic()
        left_s = self._etcd.lease_keepalive(lease)
        if left_s > 0 and lease == self._id:
            self._until = now + left_s
        return left_s > 0

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
