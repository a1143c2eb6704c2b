"""Queue and store against a model, failing at any call of etcd: every row is in one place, and there once."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from functions.collect.move import Mover, plan_moves
from shared.errors import Transient
from shared.etcd import Etcd
from shared.keys import Keys
from shared.queue import Lease, Queue
from shared.store.compaction import Compactor
from shared.store.read import Store
from shared.store.replace import sweep_pending
from tests.faults.failing_etcd import WAYS, Death, FailingEtcd
from tests.faults.model import DAY_MS, METRICS, NOW_MS, Uploads, doubles, read_actual, resolve
from tests.waiting import wait_until

TTL_S = 30
KEYS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from([METRICS, METRICS[:1], METRICS[1:]])),
    min_size=1,
    max_size=4,
    unique_by=lambda key: key[:2],
)
#: Which of several, whatever they are by then.
CHOICES = st.integers(0, 1000)


def failures(calls):
    """Draw at which of so many calls something fails, and how; often it does not."""
    return st.none() | st.tuples(st.integers(1, calls), st.sampled_from(WAYS))


def choose(several, which):
    return several[which % len(several)]


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


class Pipeline(RuleBasedStateMachine):
    """What is done to one queue and one store, and what must be in them afterwards."""

    endpoint = ""
    done: ClassVar = Counter()

    def __init__(self):
        super().__init__()
        self.etcd = Etcd([self.endpoint])
        self.keys = Keys(f"/model-{secrets.token_hex(6)}")
        self.uploads = Uploads()
        self.collectors = []
        #: Everything that was published, by name; what of it waits, is set aside, or is held, and by whom.
        self.messages, self.queued, self.dead, self.owners = {}, set(), set(), {}

    def teardown(self):
        self.etcd.close()

    def collector(self):
        self.collectors.append(Collector(self.etcd, self.keys))
        return self.collectors[-1]

    @contextlib.contextmanager
    def failing(self, collector, failure):
        """Let a collector fail as it was told, and see that it touches nothing that others hold.

        What it had a right to is found as it is: nothing or all of it may have happened.
        """
        others = {m for m, owner in self.owners.items() if owner is not collector}
        failed = False
        collector.etcd.fail_at(*failure or (0, ""))
        try:
            yield
        except (Death, Transient):
            failed = True
        collector.etcd.fail_at(0, "")
        # What is given back once etcd answers again.
        wait_until(lambda: not len(getattr(collector.queue, "returns", ())), every_s=0.01)
        now = read_actual(self.etcd, self.keys)
        assert others <= now.queued & now.claimed
        assert now.queued | now.dead <= set(self.messages)
        assert self.dead <= now.dead
        self.queued, self.dead = now.queued, now.dead
        self.owners = {m: self.owners.get(m, collector) for m in now.claimed}
        self.done["failures" if failed else "successes"] += 1

    # What is done: `failure` is where it fails.

    @rule(files=st.lists(KEYS, min_size=1, max_size=3), day=st.integers(0, 1), failure=failures(3))
    def publish(self, files, day, failure):
        self._publish([self.uploads.message(keys=keys, day=day) for keys in files], failure)

    @rule(failure=failures(2))
    def publish_what_cannot_be_read(self, failure):
        self._publish([self.uploads.message(keys=(), day=0)], failure)

    @precondition(lambda self: self.queued)
    @rule(which=CHOICES, failure=failures(2))
    def publish_again(self, which, failure):
        self._publish([self.messages[choose(sorted(self.queued), which)]], failure)

    def _publish(self, messages, failure):
        collector, told = Collector(self.etcd, self.keys), set()
        self.messages |= {m.id: m for m in messages}
        with self.failing(collector, failure):
            for m in messages:
                collector.queue.publish(m.id, m.payload, rows=max(len(m.rows), 1))
                told.add(m.id)
        assert told <= self.queued
        for m in messages:
            if m.id not in self.queued:
                del self.messages[m.id]

    @precondition(lambda self: self.queued)
    @rule(first=CHOICES, count=st.integers(1, 4), failure=failures(3))
    def claim(self, first, count, failure):
        collector = self.collector()
        listed = Queue(self.etcd, self.keys).list_ready()
        start = first % len(listed)
        wanted = listed[start : start + count]
        free = {m.id for m in wanted} - set(self.owners)
        with self.failing(collector, failure):
            collector.claims = collector.queue.claim(wanted, collector.lease)
            assert {c.message.id for c in collector.claims} == free

    def _claimers(self):
        return [c for c in self.collectors if c.claims]

    def _holders(self):
        return [c for c in self.collectors if c.etcd.leases]

    def _good(self, collector):
        """What a collector holds of what it believes to hold."""
        return {c.message.id for c in collector.claims if self.owners.get(c.message.id) is collector}

    @precondition(lambda self: self._claimers())
    @rule(which=CHOICES, failure=failures(3))
    def move_what_is_claimed(self, which, failure):
        self._move_claimed(choose(self._claimers(), which), failure)

    def _move_claimed(self, collector, failure):
        mine = self._good(collector)
        given = GivenClaims(collector.etcd, self.keys, collector.claims)
        readable = {c.message.id for c in collector.claims if self.messages[c.message.id].rows}
        together = readable & {c.message.id for c in collector.claims if not c.message.attempts}
        with self.failing(collector, failure):
            Mover(collector.etcd, self.keys, given, TTL_S).move([c.message for c in collector.claims])
            now = read_actual(self.etcd, self.keys)
            assert not {m for m in mine if m not in together or together <= mine} & now.queued
            assert not mine & now.claimed

    @precondition(lambda self: self._claimers())
    @rule(which=CHOICES, failure=failures(3))
    def hang_while_others_move(self, which, failure):
        collector = choose(self._claimers(), which)
        self._end_lease(collector)
        self._drain(None)
        self._move_claimed(collector, failure)

    @precondition(lambda self: self._claimers())
    @rule(which=CHOICES, silently=st.booleans(), failure=failures(3))
    def give_back(self, which, silently, failure):
        collector = choose(self._claimers(), which)
        mine = self._good(collector)
        with self.failing(collector, failure):
            for claim in collector.claims:
                if silently:
                    collector.queue.put_back(claim)
                else:
                    collector.queue.release([claim])
            assert not mine & read_actual(self.etcd, self.keys).claimed

    @precondition(lambda self: self._holders())
    @rule(which=CHOICES)
    def a_lease_ends(self, which):
        """Its collector believes in its claims all the same."""
        self._end_lease(choose(self._holders(), which))

    def _end_lease(self, collector):
        for lease in collector.etcd.leases:
            self.etcd.lease_revoke(lease)
        collector.etcd.leases.clear()
        self.owners = {m: owner for m, owner in self.owners.items() if owner is not collector}

    @rule(failure=failures(6))
    def drain(self, failure):
        self._drain(failure)

    def _drain(self, failure):
        collector = self.collector()
        with self.failing(collector, failure):
            mover = Mover(collector.etcd, self.keys, collector.queue, TTL_S)
            for group in plan_moves(collector.queue.list_ready()):
                mover.move(group)
            assert read_actual(self.etcd, self.keys).queued == set(self.owners)

    @rule(all_fresh=st.booleans(), ahead=st.booleans(), days=st.integers(0, 2), failure=failures(10))
    def compact(self, all_fresh, ahead, days, failure):
        """With `ahead` as if the outputs were too large for one transaction."""
        collector = self.collector()
        store = Store(collector.etcd, self.keys)
        compactor = Compactor(collector.etcd, self.keys, store, lambda: NOW_MS + days * DAY_MS)
        before = self.queued, self.dead, self.owners
        with pytest.MonkeyPatch.context() as limits, self.failing(collector, failure):
            if ahead:
                limits.setattr("shared.store.replace.MAX_SEGMENT_BYTES", 0)
            if all_fresh:
                compactor.compact(10)
            else:
                compactor.fold_some()
        assert (self.queued, self.dead, self.owners) == before
        # The lock of who died, too, ends with its lease.
        self._end_lease(collector)

    @rule(hours=st.integers(0, 1))
    def sweep(self, hours):
        sweep_pending(self.etcd, self.keys, NOW_MS + DAY_MS * 2 + hours * 3600_000)

    # What must be so after each.

    @invariant()
    def everything_is_in_one_place(self):
        now = read_actual(self.etcd, self.keys)
        assert (now.queued, now.dead, now.claimed) == (self.queued, self.dead, set(self.owners))
        assert doubles(now.rows) == []
        published = [row for m in self.messages.values() for row in m.rows]
        assert resolve(now.rows) == resolve(published)
        assert set(now.rows) <= set(published)
        Pipeline.done["states"] += 1
        Pipeline.done["rows"] += len(now.rows)


def test_queue_and_store_against_a_model(etcd_endpoint, say, scale):
    Pipeline.endpoint = etcd_endpoint
    Pipeline.done.clear()
    how = settings(
        max_examples=40 * scale,
        stateful_step_count=30,
        deadline=None,
        print_blob=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Pipeline, settings=how)
    say(", ".join(f"{n} {what}" for what, n in Pipeline.done.items()))
