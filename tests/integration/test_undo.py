"""Undoing and retention on a real etcd: what should go goes, whatever else happens meanwhile."""

from __future__ import annotations

import pytest

from functions.collect.events import decide_earliest_day
from shared.config import Settings
from shared.errors import NotFound
from shared.keys import message_id, new_upload_id
from shared.messages import Origin, encode_message
from shared.store.read import Store
from shared.store.retention import Retention
from shared.undo import Undo
from tests.integration.stored import DAY_MS, NOW_MS, Pipeline, rows


@pytest.fixture
def pipeline(etcd, keys, queue):
    return Pipeline(etcd, keys, queue)


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
