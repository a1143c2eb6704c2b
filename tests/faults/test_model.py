"""Queue and store against a model, failing at any call of etcd: every row is in one place, and there once."""

from __future__ import annotations

import contextlib
import logging

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from functions.collect.move import Mover, plan_moves
from shared.errors import Conflict, NotFound
from shared.queue import Queue
from shared.queue.dead import DeadLetters
from shared.store.compaction import Compactor
from shared.store.read import Store
from shared.store.replace import sweep_pending
from shared.undo import Undo
from tests.faults.failing_etcd import WAYS
from tests.faults.machine import TTL_S, Collector, GivenClaims, Machine
from tests.faults.model import DAY_MS, METRICS, NOW_MS, UNREADABLE, read_actual

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


class Pipeline(Machine):
    """What is done; `failure` says where it fails."""

    @rule(files=st.lists(KEYS, min_size=1, max_size=3), day=st.integers(0, 1), failure=failures(3))
    def publish(self, files, day, failure):
        self._publish([self.uploads.message(keys=keys, day=day) for keys in files], failure)

    @rule(failure=failures(2))
    def publish_what_cannot_be_read(self, failure):
        self._publish([self.uploads.message(keys=(), day=0)], failure)

    @precondition(lambda self: self._waiting())
    @rule(which=CHOICES, failure=failures(2))
    def publish_again(self, which, failure):
        self._publish([choose(self._waiting(), which)], failure)

    def _waiting(self):
        return [m for name, m in self.messages.items() if name in self.queued and m.upload not in self.undone]

    @precondition(lambda self: self.undone)
    @rule(which=CHOICES)
    def publish_what_was_undone(self, which):
        message = choose([m for m in self.messages.values() if m.upload in self.undone], which)
        with pytest.raises(Conflict):
            Queue(self.etcd, self.keys).publish(message.id, message.payload, rows=1)

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
        self.rows += [row for m in messages if m.id in self.queued for row in m.rows]

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

    @precondition(lambda self: self.claimers())
    @rule(which=CHOICES, failure=failures(3))
    def move_what_is_claimed(self, which, failure):
        self._move_claimed(choose(self.claimers(), which), failure)

    def _move_claimed(self, collector, failure):
        mine = self.good(collector)
        given = GivenClaims(collector.etcd, self.keys, collector.claims)
        readable = {c.message.id for c in collector.claims if c.payload != UNREADABLE}
        together = readable & {c.message.id for c in collector.claims if not c.message.attempts}
        with self.failing(collector, failure):
            Mover(collector.etcd, self.keys, given, TTL_S).move([c.message for c in collector.claims])
            now = read_actual(self.etcd, self.keys)
            assert not {m for m in mine if m not in together or together <= mine} & now.queued
            assert not mine & now.claimed

    @precondition(lambda self: self.claimers())
    @rule(which=CHOICES, failure=failures(3))
    def hang_while_others_move(self, which, failure):
        collector = choose(self.claimers(), which)
        self.end_lease(collector)
        self._drain(None)
        self._move_claimed(collector, failure)

    @precondition(lambda self: self.claimers())
    @rule(which=CHOICES, silently=st.booleans(), failure=failures(3))
    def give_back(self, which, silently, failure):
        collector = choose(self.claimers(), which)
        mine = self.good(collector)
        with self.failing(collector, failure):
            for claim in collector.claims:
                if silently:
                    collector.queue.put_back(claim)
                else:
                    collector.queue.release([claim])
            assert not mine & read_actual(self.etcd, self.keys).claimed

    @precondition(lambda self: self.holders())
    @rule(which=CHOICES)
    def a_lease_ends(self, which):
        """Its collector believes in its claims all the same."""
        self.end_lease(choose(self.holders(), which))

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
        self.end_lease(collector)

    @rule(hours=st.integers(0, 1))
    def sweep(self, hours):
        sweep_pending(self.etcd, self.keys, NOW_MS + DAY_MS * 2 + hours * 3600_000)

    @precondition(lambda self: self.dead)
    @rule(which=CHOICES, failure=failures(3))
    def replay_one(self, which, failure):
        name = choose(sorted(self.dead), which)
        collector, told = self.collector(), False
        undone = self.messages[name].upload in self.undone
        with self.failing(collector, failure, touches={name}):
            if undone:
                with pytest.raises(Conflict):
                    DeadLetters(collector.etcd, self.keys).replay(name, NOW_MS)
            else:
                DeadLetters(collector.etcd, self.keys).replay(name, NOW_MS)
                told = True
        assert name in (self.queued if told else self.queued | self.dead)

    @precondition(lambda self: self.dead)
    @rule(failure=failures(4))
    def replay_all(self, failure):
        dead, told = self.dead, False
        with self.failing(self.collector(), failure, touches=dead):
            DeadLetters(self.collectors[-1].etcd, self.keys).replay_all(100, NOW_MS)
            told = True
        assert dead <= self.queued | self.dead
        assert not told or all(self.messages[m].upload in self.undone for m in self.dead)

    @precondition(lambda self: self.dead)
    @rule(which=CHOICES, failure=failures(3))
    def drop_one(self, which, failure):
        name = choose(sorted(self.dead), which)
        with self.failing(self.collector(), failure, touches={name}):
            DeadLetters(self.collectors[-1].etcd, self.keys).drop(name)
        if name not in self.dead:
            assert name not in self.queued
            del self.messages[name]

    def _undo(self, collector):
        return Undo(collector.etcd, self.keys, Store(collector.etcd, self.keys), lambda: NOW_MS)

    @precondition(lambda self: self.messages)
    @rule(which=CHOICES, failure=failures(10))
    def undo(self, which, failure):
        upload = choose(sorted({m.upload for m in self.messages.values()}), which)
        touches = {name for name, m in self.messages.items() if m.upload == upload}
        collector = self.collector()
        with self.failing(collector, failure, touches), contextlib.suppress(NotFound):
            assert self._undo(collector).delete(upload).state == "deleted"
            self.gone.add(upload)
        if self.etcd.get(self.keys.deleted(upload)):
            self.undone.add(upload)

    @precondition(lambda self: self.undone - self.gone)
    @rule(failure=failures(10))
    def go_on_with_undoing(self, failure):
        touches = {name for name, m in self.messages.items() if m.upload in self.undone}
        collector = self.collector()
        with self.failing(collector, failure, touches):
            self._undo(collector).go_on(10)
            self.gone |= self.undone


def test_queue_and_store_against_a_model(etcd_endpoint, say, scale, caplog):
    # Thousands of messages are buried; what counts is in the assertion.
    caplog.set_level(logging.CRITICAL)
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
    done = Pipeline.done
    say(
        f"{done['successes'] + done['failures']} operations, {done['failures']} of them failed midway; "
        f"{done['states']} states and {done['rows']} rows in them compared"
    )
