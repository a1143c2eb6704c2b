"""The collect function in a process that kills itself at its n-th call of etcd, before or after it.

Run as: dying_collect.py N before|after.
"""

from __future__ import annotations

import os
import signal
import sys

import functions_framework

import shared.http.startup
from shared.etcd import Etcd

AT, WHEN = int(sys.argv[1]), sys.argv[2]


class DyingEtcd(Etcd):
    """Counts calls that leave the process, and dies at one."""

    calls = 0

    def _step(self, call, *args, **kwargs):
        DyingEtcd.calls += 1
        dies = DyingEtcd.calls == AT
        if dies and WHEN == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(*args, **kwargs)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    def read(self, *args, **kwargs):
        return self._step(super().read, *args, **kwargs)

    def txn(self, *args, **kwargs):
        return self._step(super().txn, *args, **kwargs)

    def lease_grant(self, *args, **kwargs):
        return self._step(super().lease_grant, *args, **kwargs)


shared.http.startup.Etcd = DyingEtcd
app = functions_framework.create_app("collect", "functions/collect/main.py")
answer = app.test_client().post("/collect")
assert answer.status_code == 200, answer.data
