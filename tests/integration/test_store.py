"""Folding, merging, undoing and retention on a real etcd: what queries see stays, or goes as it should."""

from __future__ import annotations

import itertools
import secrets

import pyarrow as pa
import pytest

from functions.collect.drain import Drain
from functions.collect.events import decide_earliest_day
from functions.collect.move import Mover
from shared.config import Settings
from shared.errors import NotFound
from shared.etcd import Delete, Get, Put, prefix_end
from shared.keys import message_id, new_upload_id
from shared.messages import Origin, encode_message
from shared.records import TIMESTAMP, concat, sort_resolve
from shared.store import fold
from shared.store.compaction import Compactor
from shared.store.gpus import Gpus
from shared.store.read import SegmentGone, Store
from shared.store.replace import replace, sweep_pending
from shared.store.retention import Retention
from shared.store.write import build_run
from shared.undo import Undo

NOW_MS = 1_705_320_000_000  # 2024-01-15T12:00:00Z
DAY_MS = 86_400_000


def rows(uuids, seconds, value, **labels):
    cells = [(u, s) for s in seconds for u in uuids]
    return pa.table({
        "uuid": pa.array([u for u, _ in cells]).dictionary_encode(),
        "timestamp": pa.array([s * 1000 for _, s in cells], TIMESTAMP),
        "power_draw": pa.array([value(u, s) for u, s in cells], pa.float64()),
        **{n: pa.array([v] * len(cells)).dictionary_encode() for n, v in labels.items()},
    })  # fmt: skip


class Pipeline:
    """Queue and store without the functions around them."""

    def __init__(self, etcd, keys, queue):
        self.etcd, self.keys, self.queue = etcd, keys, queue
        self.store = Store(etcd, keys)
        self.gpus = Gpus(self.store)
        self.compactor = Compactor(etcd, keys, Store(etcd, keys, 0), lambda: NOW_MS)
        self.drain = Drain(queue, lambda: Mover(etcd, keys, queue, 5), 1)
        self.undo = Undo(etcd, keys, Store(etcd, keys, 0), lambda: NOW_MS)

    def upload(self, *tables, at_ms=NOW_MS, move=True):
        upload = new_upload_id(at_ms)
        origin = Origin(upload_id=upload, received_ms=at_ms, cluster="default")
        for number, table in enumerate(tables):
            payload = encode_message(table, origin, number)
            also = (
                [Put(self.keys.upload(upload), b'{"received_at": %d}' % at_ms)]
                if number + 1 == len(tables)
                else []
            )
            self.queue.publish(message_id(upload, number), payload, rows=table.num_rows, also=also)
            if move:
                self.drain.take_all(10)
        return upload

    def raw(self):
        tables = list(self.store.read(self.store.index().segments))
        return concat(tables) if tables else None

    def records(self):
        raw = self.raw()
        if raw is None:
            return []
        table = sort_resolve(raw)
        return sorted(table.select(sorted({"uuid", "timestamp", "power_draw"})).to_pylist(), key=str)

    def levels(self):
        return sorted(s.level for s in self.store.index().segments)

    def keys_below(self, prefix):
        return [i.key.removeprefix(prefix) for i in self.etcd.read(Get(prefix, prefix_end(prefix))).items]

    def check_keys(self):
        """Payloads and inventories are those of the index, and nothing is pending."""
        segments = self.store.index().segments
        assert set(self.keys_below(self.keys.segment_prefix)) == {s.id for s in segments}
        assert set(self.keys_below(self.keys.inventory_prefix)) == {s.id for s in segments if s.level}
        assert self.keys_below(self.keys.pending_prefix) == []


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


def test_gpus_read_no_segment_that_was_folded(pipeline):
    for i in range(3):
        pipeline.upload(rows(["GPU-a", f"GPU-{i}"], [i], lambda _u, s: s, hostname=f"h{i}"))
    pipeline.compactor.compact(10)
    for segment in pipeline.store.index().segments:
        pipeline.etcd.txn([], [Delete(pipeline.keys.segment(segment.id))])
    found = {g["uuid"]: g for g in Gpus(Store(pipeline.etcd, pipeline.keys)).read().to_pylist()}
    assert set(found) == {"GPU-a", "GPU-0", "GPU-1", "GPU-2"}
    expected = {"first_ms": 0, "last_ms": 2000, "hostname": "h2", "power_draw": 2.0}
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


def test_an_upload_can_be_undone_wherever_its_rows_are(pipeline):
    keep = pipeline.upload(rows(["GPU-a", "GPU-b"], range(5), lambda _u, s: s))
    before, gpus = pipeline.records(), pipeline.gpus.read().to_pylist()
    wrong = pipeline.upload(
        rows(["GPU-c"], range(10, 15), lambda _u, s: -s), rows(["GPU-a"], range(10, 13), lambda _u, s: -s)
    )
    pipeline.compactor.compact(10)
    # One more message of it waits, and one was set aside.
    origin = Origin(upload_id=wrong, received_ms=NOW_MS, cluster="default")
    pipeline.queue.publish(message_id(wrong, 7), b"not a message", rows=3)
    pipeline.drain.take_all(10)
    waiting = encode_message(rows(["GPU-z"], [1], lambda _u, s: s), origin, 8)
    pipeline.queue.publish(message_id(wrong, 8), waiting, rows=1)

    look = pipeline.undo.look(wrong)
    assert (look.state, look.rows, look.messages, look.gpus) == (
        "would be deleted",
        12,
        2,
        {"GPU-a", "GPU-c"},
    )
    assert (look.first_ms, look.last_ms) == (10_000, 14_000)
    assert len(pipeline.records()) == 18

    done = pipeline.undo.delete(wrong)
    assert (done.state, done.rows, done.messages) == ("deleted", 12, 2)
    assert pipeline.records() == before
    assert pipeline.gpus.read().to_pylist() == gpus
    assert pipeline.queue.depth_now() == 0
    assert pipeline.queue.count_of_upload(wrong) == (0, 0)
    assert {r["upload_id"] for r in pipeline.raw().to_pylist()} == {keep}
    pipeline.check_keys()
    # Again is fine, and says so.
    again = pipeline.undo.delete(wrong)
    assert (again.state, again.rows) == ("deleted", 0)
    with pytest.raises(NotFound):
        pipeline.undo.delete(new_upload_id(NOW_MS))


def test_a_tick_goes_on_with_an_undoing_that_ran_out_of_time(pipeline):
    wrong = pipeline.upload(*(rows([f"GPU-{i}"], range(5), lambda _u, s: s) for i in range(3)))
    assert pipeline.undo.delete(wrong, budget_s=-1).state == "deleting"
    assert 0 < len(pipeline.records()) < 15
    assert pipeline.undo.go_on(10) == 1
    assert pipeline.records() == []
    assert pipeline.undo.go_on(10) == 0
    pipeline.check_keys()


def test_what_was_overwritten_does_not_come_back_and_the_answer_says_so(pipeline):
    pipeline.upload(rows(["GPU-a"], [1], lambda _u, _s: 1.0))
    newer = pipeline.upload(rows(["GPU-a"], [1], lambda _u, _s: 2.0), at_ms=NOW_MS + 1)
    pipeline.compactor.compact(10)
    assert "do not come back" in pipeline.undo.delete(newer).warnings[0]
    assert pipeline.records() == []


def test_retention_takes_whole_days_of_ingestion(pipeline):
    old = pipeline.upload(rows(["GPU-old"], [1], lambda _u, s: s), at_ms=NOW_MS - 8 * DAY_MS)
    edge = pipeline.upload(rows(["GPU-edge"], [1], lambda _u, s: s), at_ms=NOW_MS - 7 * DAY_MS)
    late = pipeline.upload(rows(["GPU-late"], [1], lambda _u, s: s))
    kept = Retention(pipeline.etcd, pipeline.keys, pipeline.store, "off")
    assert [d.expired for d in kept.survey(NOW_MS)] == [False] * 3
    assert kept.sweep(NOW_MS) == []
    retention = Retention(pipeline.etcd, pipeline.keys, pipeline.store, "7d")
    days = retention.survey(NOW_MS)
    assert [(d.day, d.segments, d.rows, d.uploads, d.expired) for d in days] == [
        ("20240107", 1, 1, 1, True),
        ("20240108", 1, 1, 1, False),
        ("20240115", 1, 1, 1, False),
    ]
    assert len(pipeline.records()) == 3
    assert retention.sweep(NOW_MS) == days[:1]
    assert {r["uuid"] for r in pipeline.records()} == {"GPU-edge", "GPU-late"}
    assert pipeline.keys_below(pipeline.keys.uploads_prefix) == sorted([edge, late])
    assert old not in pipeline.keys_below(pipeline.keys.uploads_prefix)
    pipeline.check_keys()


def test_what_waited_longer_than_retention_is_not_swept_as_it_comes(pipeline, etcd, keys):
    pipeline.upload(rows(["GPU-a"], [1], lambda _u, s: s), at_ms=NOW_MS - 30 * DAY_MS, move=False)
    pipeline.drain.take_all(10, decide_earliest_day(NOW_MS + 9 * DAY_MS, NOW_MS))
    retention = Retention(etcd, keys, pipeline.store, "7d")
    assert [d.day for d in retention.survey(NOW_MS)] == ["20240114"]
    retention.sweep(NOW_MS)
    assert len(pipeline.records()) == 1


def test_a_wrong_clock_sweeps_nothing_and_says_so(pipeline):
    from functions.collect.housekeeping import Housekeeping  # noqa: PLC0415

    pipeline.upload(rows(["GPU-a"], [1], lambda _u, s: s))
    times = {"right": NOW_MS, "wrong": NOW_MS + 30 * DAY_MS}

    def house(which):
        settings = Settings(retention="7d")
        return Housekeeping(
            pipeline.etcd, pipeline.keys, Store(pipeline.etcd, pipeline.keys, 0), settings,
            quota_bytes=lambda: 2**31, now_ms=lambda: times[which],
        )  # fmt: skip

    for which in ("right", "wrong", "right", "wrong", "wrong", "right"):
        house(which).tick()
    assert len(pipeline.records()) == 1
    assert house("wrong").sweep()["note"]
    assert len(pipeline.records()) == 1
    for _ in range(3):
        house("wrong").tick()
    # Three in a row agree, but it may be that only this clock ticks: nothing stored is of its time.
    assert len(pipeline.records()) == 1
    pipeline.upload(rows(["GPU-b"], [1], lambda _u, s: s), at_ms=times["wrong"])
    house("wrong").tick()
    # Time has gone on.
    assert [r["uuid"] for r in pipeline.records()] == ["GPU-b"]


class Interrupting:
    """An etcd before whose n-th transaction something else happens."""

    def __init__(self, etcd, at, happen):
        self._etcd, self._left, self._happen = etcd, at, happen

    def __getattr__(self, name):
        return getattr(self._etcd, name)

    def txn(self, *args, **kwargs):
        self._left -= 1
        if self._left == 0:
            self._happen()
        return self._etcd.txn(*args, **kwargs)


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("beside", [True, False])
def test_an_upload_is_undone_whatever_is_adopted_meanwhile(pipeline, etcd, keys, at, beside):
    wrong = rows(["GPU-a"], [1], lambda _u, s: s)
    if beside:
        pipeline.upload(rows(["GPU-b"], [1], lambda _u, s: s), move=False)
    upload = pipeline.upload(wrong, move=False)
    pipeline.drain.take_all(10)
    between = Interrupting(etcd, at, lambda: pipeline.compactor.compact(10))
    undone = Undo(between, keys, Store(etcd, keys, 0), lambda: NOW_MS).delete(upload)
    assert undone.state == "deleted"
    assert [r["uuid"] for r in pipeline.records()] == ["GPU-b"] * beside
    pipeline.check_keys()


@pytest.mark.parametrize("at", [1, 2])
def test_a_sweep_takes_no_payload_from_a_segment_that_was_adopted_meanwhile(pipeline, etcd, keys, at):
    pipeline.upload(rows(["GPU-a"], [1], lambda _u, s: s), at_ms=NOW_MS - 9 * DAY_MS)
    between = Interrupting(etcd, at, lambda: pipeline.compactor.compact(10))
    Retention(between, keys, Store(etcd, keys, 0), "7d").sweep(NOW_MS)
    assert pipeline.records() == []
    pipeline.check_keys()


def test_a_sweep_keeps_the_mark_of_an_undoing_that_goes_on(pipeline, etcd, keys):
    old = pipeline.upload(rows(["GPU-a"], [1], lambda _u, s: s), at_ms=NOW_MS - 9 * DAY_MS, move=False)
    pipeline.drain.take_all(10, decide_earliest_day(NOW_MS, NOW_MS))
    assert pipeline.undo.delete(old, budget_s=-1).state == "deleting"
    Retention(etcd, keys, pipeline.store, "7d").sweep(NOW_MS)
    assert pipeline.undo.go_on(10) == 1
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


def test_what_an_import_brings_back_of_an_undone_upload_goes_again(pipeline, etcd, keys, queue):
    upload = pipeline.upload(rows(["GPU-a"], [1], lambda _u, s: s))
    exported = pipeline.raw()
    assert pipeline.undo.delete(upload).state == "deleted"
    imported = new_upload_id(NOW_MS)
    origin = Origin(upload_id=imported, received_ms=NOW_MS, cluster="default")
    queue.publish(message_id(imported, 0), encode_message(exported, origin, 0), rows=1)
    pipeline.drain.take_all(10)
    assert len(pipeline.records()) == 1
    assert pipeline.undo.go_on(10) == 1
    assert pipeline.records() == []


def test_an_index_of_another_etcd_is_forgotten(pipeline, etcd, keys):
    pipeline.upload(rows(["GPU-a"], [1], lambda _u, s: s))
    assert len(pipeline.store.index().segments) == 1
    for name in (keys.index_prefix, keys.segment_prefix, keys.store_bell):
        for item in etcd.read(Get(name, prefix_end(name))).items:
            etcd.txn([], [Delete(item.key)])
    assert pipeline.store.index().segments == ()
