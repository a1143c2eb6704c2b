"""A real etcd client whose calls can be made to fail, and that counts what it reads."""

from __future__ import annotations

import threading

from shared.errors import Transient
from shared.etcd import Etcd


class FaultyEtcd(Etcd):
    """While `away` is set no transaction, read or lease goes through."""

    def __init__(self, endpoints):
        super().__init__(endpoints)
        self.away = threading.Event()
        #: Keys that each read brought.
        self.keys_read = []

    def _check(self):
        if self.away.is_set():
            raise Transient("away")

    def read(self, *args, **kwargs):
        self._check()
        answer = super().read(*args, **kwargs)
        self.keys_read.append(len(answer.items))
        return answer

    def txn(self, *args, **kwargs):
        self._check()
        answer = super().txn(*args, **kwargs)
        self.keys_read.append(sum(len(r.items) for r in answer.reads))
        return answer

    def lease_grant(self, *args, **kwargs):
        self._check()
        return super().lease_grant(*args, **kwargs)

    def lease_keepalive(self, *args, **kwargs):
        self._check()
        return super().lease_keepalive(*args, **kwargs)

    def lease_revoke(self, *args, **kwargs):
        self._check()
        return super().lease_revoke(*args, **kwargs)
