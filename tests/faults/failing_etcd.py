"""An etcd client that fails at one of its calls: its process dies there, or the answer does not come."""

from __future__ import annotations

from shared.errors import Transient
from shared.etcd import Etcd

#: What may become of a call.
DIES_BEFORE, DIES_AFTER = "dies before it", "dies after it"
NOT_DONE, NO_ANSWER = "not done", "done, and no answer"
WAYS = (DIES_BEFORE, DIES_AFTER, NOT_DONE, NO_ANSWER)


class Death(BaseException):
    """The process is dead: nothing may handle it."""


class FailingEtcd(Etcd):
    """A client on another's connection; where its process has died, no call goes through any more."""

    def __init__(self, real: Etcd):
        self.__dict__.update(real.__dict__)
        self._left, self._way = 0, ""
        self.dead = False
        #: Leases that live on after a death, until their time is up.
        self.leases = []

    def fail_at(self, call, way):
        """Fail at the call-th call from now on."""
        self._left, self._way = call, way

    def _step(self, call, *args, **kwargs):
        if self.dead:
            raise Death
        self._left -= 1
        now = self._left == 0
        self.dead = now and self._way in (DIES_BEFORE, DIES_AFTER)
        if now and self._way == DIES_BEFORE:
            raise Death
        if now and self._way == NOT_DONE:
            raise Transient
        answer = call(*args, **kwargs)
        if now and self._way == DIES_AFTER:
            raise Death
        if now and self._way == NO_ANSWER:
            raise Transient
        return answer

    def read(self, *args, **kwargs):
        return self._step(super().read, *args, **kwargs)

    def txn(self, *args, **kwargs):
        return self._step(super().txn, *args, **kwargs)

    def _grant(self, ttl_s):
        lease = super().lease_grant(ttl_s)
        self.leases.append(lease)
        return lease

    def lease_grant(self, ttl_s):
        return self._step(self._grant, ttl_s)

    def lease_keepalive(self, *args, **kwargs):
        return self._step(super().lease_keepalive, *args, **kwargs)

    def lease_revoke(self, *args, **kwargs):
        return self._step(super().lease_revoke, *args, **kwargs)
