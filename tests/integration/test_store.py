"""Folding and merging on a real etcd: what queries see stays."""

from __future__ import annotations

import itertools
import secrets

import pytest

from shared.etcd import Delete, Get, prefix_end
from shared.keys import message_id
from shared.store import fold
from shared.store.compaction import Compactor
from shared.store.gpus import Gpus
from shared.store.read import SegmentGone, Store
from shared.store.replace import replace, sweep_pending
from shared.store.write import build_run
from tests.integration.stored import DAY_MS, NOW_MS, Pipeline, rows


@pytest.fixture
def pipeline(etcd, keys, queue):
    return Pipeline(etcd, keys, queue)


def test_folding_changes_nothing_but_the_number_of_segments(pipeline):
    for i in range(40):
        pipeline.upload(rows([f"GPU-{i % 5}", "GPU-x"], [i, 7], lambda _u, s, i=i: s + i / 10))
    before, gpus = pipeline.records(), pipeline.gpus.read().to_pylist()
    assert len(pipeline.levels()) == 40
    pipeline.compactor.fold_some()
    assert pipeline.levels() == [0] * 8 + [1]
    assert pipeline.records() == before
    assert pipeline.gpus.read().to_pylist() == gpus
    pipeline.compactor.compact(10)
    assert pipeline.levels() == [1, 1]
    assert pipeline.records() == before
    assert (
        pipeline.gpus.read().to_pylist()
        == gpus
        == Gpus(Store(pipeline.etcd, pipeline.keys)).read().to_pylist()
    )
    pipeline.check_keys()


def test_full_segments_are_merged_into_narrow_ones(pipeline, monkeypatch):
    monkeypatch.setattr(fold, "FULL_BYTES", 1000)
    monkeypatch.setattr("shared.store.compaction.TARGET_BYTES", 8_000)
    monkeypatch.setattr("shared.store.write.TARGET_BYTES", 8_000)
    uuids = [f"GPU-{i:03d}" for i in range(50)]
    for i in range(5):
        pipeline.upload(
            rows(uuids, range(i * 60, i * 60 + 60), lambda u, s: float(hash((u, s)) % 10_000) / 7)
        )
    before = pipeline.records()
    pipeline.compactor.compact(20)
    segments = sorted(pipeline.store.index().segments, key=lambda s: s.min_uuid)
    assert len(segments) > 4
    assert all(s.level == 2 for s in segments)
    assert all(a.max_uuid < b.min_uuid for a, b in itertools.pairwise(segments))
    assert sum(s.gpus for s in segments) == 50
    assert pipeline.records() == before
    pipeline.check_keys()


def test_gpus_read_step_by_step_are_those_read_at_once(pipeline):
    """Whatever came, was folded or undone since they were read last."""

    def check():
        afresh = Gpus(Store(pipeline.etcd, pipeline.keys)).read()
        assert pipeline.gpus.read().to_pylist() == afresh.to_pylist()

    uploads = []
    for i in range(36):
        # The newest record of a GPU comes first, and its pod with a later upload of an older one.
        labels = {"pod": f"p{i}"} if i % 3 else {}
        second = (i * 17) % 40
        uploads.append(
            pipeline.upload(rows([f"GPU-{i % 4}"], [second], lambda _u, _s, i=i: float(i), **labels))
        )
        check()
        if i in (18, 33):
            pipeline.compactor.fold_some()
            check()
    for upload in uploads[::5]:
        pipeline.undo.delete(upload)
        check()
    pipeline.compactor.compact(10)
    check()


def test_gpus_read_no_segment_that_was_folded(pipeline):
    for i in range(3):
        pipeline.upload(rows(["GPU-a", f"GPU-{i}"], [i], lambda _u, s: s, hostname=f"h{i}"))
    pipeline.compactor.compact(10)
    for segment in pipeline.store.index().segments:
        pipeline.etcd.txn([], [Delete(pipeline.keys.segment(segment.id))])
    found = {g["uuid"]: g for g in Gpus(Store(pipeline.etcd, pipeline.keys)).read().to_pylist()}
    assert set(found) == {"GPU-a", "GPU-0", "GPU-1", "GPU-2"}
    expected = {"@first_ms": 0, "@last_ms": 2000, "hostname": "h2", "power_draw": 2.0}
    assert found["GPU-a"].items() >= expected.items()


def test_metrics_spread_over_messages_come_together_once_the_upload_is_whole(pipeline):
    power = rows(["GPU-a"], [1, 2], lambda _u, s: s)
    pod = rows(["GPU-a"], [1, 2], lambda _u, _s: None, pod="p")
    upload = pipeline.upload(power, pod)
    assert pipeline.raw().num_rows == 4
    pipeline.compactor.compact(10)
    assert pipeline.raw().num_rows == 2
    other = pipeline.upload(power, pod)
    pipeline.queue.publish(message_id(other, 9), b"not a message", rows=1)
    pipeline.drain.take_all(10)
    pipeline.compactor.compact(10)
    # A dead letter may come back: its number has to find its place.
    mine = [r["upload_id"] for r in pipeline.raw().to_pylist()]
    assert (mine.count(upload), mine.count(other)) == (2, 4)


def test_a_replacement_that_is_overtaken_leaves_nothing(pipeline):
    for i in range(3):
        pipeline.upload(rows(["GPU-a"], [i], lambda _u, s: s))
    old = pipeline.store.index().segments
    table = pipeline.raw()
    before = pipeline.records()
    pipeline.compactor.compact(10)
    for outputs in (
        build_run(table, day="20240115", level=1, expected_bytes=10),
        [large(s) for s in build_run(table, day="20240115", level=1, expected_bytes=2_200_000)],
    ):
        assert not replace(pipeline.etcd, pipeline.keys, old, outputs, NOW_MS)
        pipeline.check_keys()
    assert pipeline.records() == before


def large(segment):
    """The same segment, with a payload so large that it is put ahead of the transaction."""
    return type(segment)(
        info=segment.info, payload=segment.payload + b"\0" * 1_000_000, inventory=segment.inventory
    )


def test_what_a_crash_put_ahead_is_swept_up_and_its_owner_then_loses(pipeline):
    upload = pipeline.upload(rows(["GPU-a"], range(4), lambda _u, s: s))
    old = pipeline.store.index().segments
    outputs = [large(s) for s in build_run(pipeline.raw(), day="20240115", level=1, expected_bytes=2_200_000)]
    assert len(outputs) == 2

    class Slow(type(pipeline.etcd)):
        """While the second payload is put, a tick sweeps up what it takes for a dead one's."""

        calls = 0

        def txn(self, compare, success, failure=(), **how):
            self.calls += 1
            if self.calls == 3:
                assert sweep_pending(pipeline.etcd, pipeline.keys, NOW_MS + 3_600_000) == 2
            return super().txn(compare, success, failure, **how)

    slow = Slow(pipeline.etcd.endpoints)
    assert not replace(slow, pipeline.keys, old, outputs, NOW_MS)
    slow.close()
    pipeline.check_keys()
    assert {r["upload_id"] for r in pipeline.raw().to_pylist()} == {upload}


def test_a_reader_is_told_that_a_segment_is_gone(pipeline):
    for second in range(2):
        pipeline.upload(rows(["GPU-a"], [second], lambda _u, s: s))
    old = pipeline.store.index().segments
    pipeline.compactor.compact(10)
    with pytest.raises(SegmentGone):
        list(Store(pipeline.etcd, pipeline.keys).read(old))
    with pytest.raises(SegmentGone):
        pipeline.store.read_inventories(old)
    assert len(pipeline.records()) == 2


def test_what_was_overwritten_does_not_come_back_and_the_answer_says_so(pipeline):
    pipeline.upload(rows(["GPU-a"], [1], lambda _u, _s: 1.0))
    newer = pipeline.upload(rows(["GPU-a"], [1], lambda _u, _s: 2.0), at_ms=NOW_MS + 1)
    pipeline.compactor.compact(10)
    assert "do not come back" in pipeline.undo.delete(newer).warnings[0]
    assert pipeline.records() == []


def test_many_gpus_with_a_record_each_are_folded_and_come_to_rest(pipeline):
    """Their inventories are as large as their records, and do not all fit into one transaction."""
    names = [f"GPU-{secrets.token_hex(16)}" for _ in range(40_000)]
    for part in range(4):
        pipeline.upload(rows(names[part * 10_000 : part * 10_000 + 10_000], [part], lambda _u, s: s))
    assert pipeline.compactor.compact(20).steps > 0
    Compactor(
        pipeline.etcd, pipeline.keys, Store(pipeline.etcd, pipeline.keys, 0), lambda: NOW_MS + DAY_MS
    ).compact(20)
    later = Compactor(pipeline.etcd, pipeline.keys, pipeline.store, lambda: NOW_MS + DAY_MS).compact(20)
    assert later.steps <= 2
    assert 0 not in pipeline.levels()
    assert pipeline.gpus.read().num_rows == 40_000
    pipeline.check_keys()


def test_an_index_of_another_etcd_is_forgotten(pipeline, etcd, keys):
    pipeline.upload(rows(["GPU-a"], [1], lambda _u, s: s))
    assert len(pipeline.store.index().segments) == 1
    for name in (keys.index_prefix, keys.segment_prefix, keys.store_bell):
        for item in etcd.read(Get(name, prefix_end(name))).items:
            etcd.txn([], [Delete(item.key)])
    assert pipeline.store.index().segments == ()
