"""What the model knows, how its collectors fail, and what must be so after each step; no steps."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from typing import ClassVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from shared.errors import Transient
from shared.etcd import Etcd
from shared.keys import Keys
from shared.queue import Lease, Queue
from tests.faults.failing_etcd import Death, FailingEtcd
from tests.faults.model import Uploads, doubles, read_actual, resolve, uncovered
from tests.waiting import wait_until

TTL_S = 30


class Collector:
    """A collector's process: its connection, its lease, and the claims it believes it holds."""

    def __init__(self, etcd, keys):
        self.etcd = FailingEtcd(etcd)
        self.queue = Queue(self.etcd, keys)
        self.lease = Lease(self.etcd, TTL_S)
        self.claims = []


class GivenClaims(Queue):
    """A queue that answers a claim with claims that were made before."""

    def __init__(self, etcd, keys, claims):
        super().__init__(etcd, keys)
        self._given = claims

    def claim(self, *_args, **_kwargs):
        return self._given


class Machine(RuleBasedStateMachine):
    """One queue and one store, what was done to them, and what must be in them."""

    endpoint = ""
    done: ClassVar = Counter()

    def __init__(self):
        super().__init__()
        self.etcd = Etcd([self.endpoint])
        self.keys = Keys(f"/model-{secrets.token_hex(6)}")
        self.uploads = Uploads()
        self.collectors = []
        #: Every message that is somewhere, by name; what of it waits, is set aside, or is held, and by whom.
        self.messages, self.queued, self.dead, self.owners = {}, set(), set(), {}
        #: Uploads that are being undone, and those of them of which nothing is left.
        self.undone, self.gone = set(), set()
        #: Every row that ever was.
        self.rows = []

    def teardown(self):
        self.etcd.close()

    def collector(self):
        self.collectors.append(Collector(self.etcd, self.keys))
        return self.collectors[-1]

    def claimers(self):
        return [c for c in self.collectors if c.claims]

    def holders(self):
        return [c for c in self.collectors if c.etcd.leases]

    def good(self, collector):
        """What a collector holds of what it believes to hold."""
        return {c.message.id for c in collector.claims if self.owners.get(c.message.id) is collector}

    def end_lease(self, collector):
        for lease in collector.etcd.leases:
            self.etcd.lease_revoke(lease)
        collector.etcd.leases.clear()
        self.owners = {m: owner for m, owner in self.owners.items() if owner is not collector}

    @contextlib.contextmanager
    def failing(self, collector, failure, touches=frozenset()):
        """Let a collector fail as it was told, and see that it leaves alone what others hold.

        It has a right to what nobody holds, and to what it `touches`. That is found as it is: nothing or all
        of what it does may have happened.
        """
        others = {m for m, owner in self.owners.items() if owner is not collector} - touches
        failed = False
        collector.etcd.fail_at(*failure or (0, ""))
        try:
            yield
        except (Death, Transient):
            failed = True
        collector.etcd.fail_at(0, "")
        # What is given back once etcd answers again.
        wait_until(lambda: not len(collector.queue.returns), every_s=0.01)
        now = read_actual(self.etcd, self.keys)
        assert others <= now.queued & now.claimed
        assert self.dead - touches <= now.dead
        assert now.queued | now.dead <= set(self.messages)
        self.queued, self.dead = now.queued, now.dead
        self.owners = {m: self.owners.get(m, collector) for m in now.claimed}
        self.done["failures" if failed else "successes"] += 1

    @invariant()
    def everything_is_in_one_place(self):
        now = read_actual(self.etcd, self.keys)
        assert (now.queued, now.dead, now.claimed) == (self.queued, self.dead, set(self.owners))
        assert doubles(now.rows) == []
        published = [row for m in self.messages.values() for row in m.rows if row.upload not in self.gone]
        assert set(now.rows) <= set(published)
        if not self.undone:
            assert resolve(now.rows) == resolve(published)
        # Compaction drops a row once newer ones say all that it says; undoing those does not bring it back.
        kept = {row for row in published if row.upload not in self.undone}
        assert kept & uncovered(self.rows) <= set(now.rows)
        self.done["states"] += 1
        self.done["rows"] += len(now.rows)
