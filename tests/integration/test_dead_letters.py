"""Dead letters: listed, looked into, replayed, dropped."""

from __future__ import annotations

import pytest

from functions.collect.dead import describe_payload
from functions.collect.move import Mover, plan_moves
from shared.errors import Conflict, NotFound
from shared.etcd import Delete, Put
from shared.keys import Keys, ingestion_day, message_id, new_upload_id
from shared.messages import Origin
from shared.queue import Lease, Queue, parse_bell
from shared.queue.dead import DeadLetters
from shared.store.read import Store
from tests.functions import running
from tests.integration.records import NOW_MS, encoded, of_version_9, publish, rows_of

REPLAY_MS = NOW_MS + 3 * 86_400_000


@pytest.fixture
def letters(etcd, keys):
    return DeadLetters(etcd, keys)


def bury(queue, etcd, count=1, reason="no reason"):
    """Publish messages and bury them; returns their ids."""
    publish(queue, count)
    lease = Lease(etcd, 30)
    ids = []
    for message in queue.list_ready():
        [claim] = queue.claim([message], lease)
        queue.bury(claim, reason, NOW_MS + 5000)
        ids.append(message.id)
    lease.give_back()
    return ids


def test_a_dead_letter_is_whole(queue, letters, etcd):
    [one] = bury(queue, etcd)
    [letter], count = letters.read_page(limit=10)
    assert (count, letter.message.id, letter.attempts, letter.reason) == (1, one, 1, "no reason")
    assert (letter.message.rows, letter.buried_ms) == (2, NOW_MS + 5000)
    found, payload = letters.read(one)
    assert found == letter
    assert describe_payload(payload)["records"][0]["power_draw"] == 0.0
    assert queue.depth_now() == 0


def test_a_replayed_one_is_as_new_and_enters_today(queue, letters, etcd, keys):
    [one] = bury(queue, etcd)
    letters.replay(one, REPLAY_MS)
    bell = etcd.get(keys.queue_bell)
    [waiting] = queue.list_ready()
    assert parse_bell(bell.value, bell.mod_revision) == [waiting]
    assert (waiting.attempts, waiting.day) == (0, ingestion_day(REPLAY_MS))
    assert letters.read_page(limit=10) == ([], 0)
    # The day stays with it when a collector has died of it, and its rows keep their version.
    lease = Lease(etcd, 30)
    queue.release(queue.claim([waiting], lease))
    lease.give_back()
    store = Store(etcd, keys)
    [group] = plan_moves(queue.list_ready())
    assert Mover(etcd, keys, queue, 30).move(group).messages == 1
    [segment] = store.index().segments
    assert segment.day == ingestion_day(REPLAY_MS)
    [table] = store.read([segment])
    assert set(table.column("received_at").to_pylist()) == {NOW_MS}


def test_a_replayed_one_does_not_move_with_those_of_another_day(queue, letters, etcd):
    [one] = bury(queue, etcd)
    publish(queue, 1)
    letters.replay(one, REPLAY_MS)
    assert [len(group) for group in plan_moves(queue.list_ready())] == [1, 1]


def test_one_of_an_undone_upload_stays_dead(queue, letters, etcd, keys):
    gone, other = bury(queue, etcd)[0], bury(queue, etcd)[0]
    etcd.txn([], [Put(keys.deleted(gone.rpartition("-")[0]), b"{}")])
    with pytest.raises(Conflict):
        letters.replay(gone, REPLAY_MS)
    assert letters.replay_all(10, REPLAY_MS) == (1, 1)
    assert [m.id for m in queue.list_ready()] == [other]


def test_one_without_its_payload_stays_dead(queue, letters, etcd, keys):
    [one] = bury(queue, etcd)
    etcd.txn([], [Delete(keys.payload(one))])
    with pytest.raises(Conflict):
        letters.replay(one, REPLAY_MS)
    assert "error" in describe_payload(letters.read(one)[1])


def test_only_the_one_that_was_read_is_replayed(queue, letters, etcd):
    [one] = bury(queue, etcd)
    letter, _ = letters.read(one)
    assert letters._replay([letter], REPLAY_MS)
    assert not letters._replay([letter], REPLAY_MS)
    assert not letters._drop([letter])
    with pytest.raises(NotFound):
        letters.replay(one, REPLAY_MS)
    assert queue.depth_now() == 1


def test_many_go_in_batches_up_to_a_limit(queue, letters, etcd, keys):
    bury(queue, etcd, 100)
    assert letters.replay_all(90, REPLAY_MS) == (90, 10)
    assert letters.drop_all(3) == (3, 7)
    assert letters.drop_all(100) == (7, 0)
    assert queue.depth_now() == 90
    done = sum(Mover(etcd, keys, queue, 30).move(g).messages for g in plan_moves(queue.list_ready()))
    assert done == 90
    assert len(rows_of(Store(etcd, keys))) == 180


def test_a_dead_letter_is_not_published_again(queue, letters, etcd):
    [one] = bury(queue, etcd)
    queue.publish(one, b"again", rows=1)
    assert queue.depth_now() == 0
    assert letters.read_page(limit=1)[1] == 1


@pytest.mark.parametrize("payload", [b"", b"garbage" * 100, "cut", "newer"])
def test_what_cannot_be_decoded_is_shown_as_bytes(payload):
    origin = Origin(upload_id=new_upload_id(NOW_MS), received_ms=NOW_MS, cluster="default")
    whole = encoded(origin, 0)
    data = {"cut": whole[: len(whole) // 2], "newer": of_version_9(whole)}
    payload = data.get(payload, payload)
    shown = describe_payload(payload)
    assert shown["error"]
    assert bytes.fromhex(shown["head_hex"]) == payload[:64]


@pytest.fixture(scope="module")
def collect(etcd_endpoint, tmp_path_factory):
    prefix = "/test-dead-letters-http"
    with running(
        "collect", tmp_path_factory.mktemp("collect"), etcd=etcd_endpoint, prefix=prefix
    ) as function:
        yield function


@pytest.fixture
def queue_of_collect(etcd, collect):
    return Queue(etcd, Keys("/test-dead-letters-http"))


def test_over_http(collect, queue_of_collect, etcd):
    upload = publish(queue_of_collect, 2)
    bad = message_id(upload, 7)
    queue_of_collect.publish(bad, b"garbage", rows=3)
    assert collect.call("POST", "/collect")[1]["data"]["buried"] == 1
    status, body = collect.get("/dead")
    [letter] = body["data"]
    assert (status, body["count"], letter["id"], letter["upload_id"]) == (200, 1, bad, upload)
    assert (letter["rows"], letter["bytes"], letter["attempts"]) == (3, 7, 1)
    assert letter["received_at"] == "2023-11-14T22:13:20Z"
    assert letter["buried_at"][:4] >= "2024"
    status, body = collect.get(f"/dead/{bad}")
    assert (status, body["data"]["head_hex"], body["data"]["reason"]) == (
        200,
        b"garbage".hex(),
        letter["reason"],
    )
    assert collect.get(f"/dead?after={bad}")[1] == {"success": True, "data": [], "count": 1}
    assert collect.call("POST", f"/dead/{bad}/replay")[1]["data"] == {"id": bad, "replayed": 1}
    assert collect.get("/dead")[1]["count"] == 0
    collect.call("POST", "/collect")
    assert collect.call("POST", "/dead/replay?all=true&limit=5")[1]["data"] == {"replayed": 1, "left": 0}
    collect.call("POST", "/collect")
    for method, path in (("DELETE", "/dead"), ("POST", "/dead/replay")):
        assert collect.call(method, path)[0] == 400
        assert collect.call(method, path + "/")[0] in (400, 404, 405)
    assert collect.call("DELETE", "/dead/")[0] == 404
    assert collect.call("DELETE", f"/dead/{bad}")[0] == 200
    assert collect.call("DELETE", "/dead?all=true")[1]["data"] == {"dropped": 0, "left": 0}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
        assert collect.call(method, f"/dead/{bad}{path}")[0] == 404


def test_a_good_one_is_shown_with_its_records(collect, queue_of_collect, etcd):
    [one] = bury(queue_of_collect, etcd)
    data = collect.get(f"/dead/{one}")[1]["data"]
    assert data["columns"] == ["uuid", "timestamp", "power_draw", "cluster"]
    assert (data["first_timestamp"], data["last_timestamp"]) == (
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:01Z",
    )
    assert data["gpu_count"] == len(data["gpus"]) == 2
    assert data["records"][1]["timestamp"] == "1970-01-01T00:00:01Z"
    assert collect.call("DELETE", "/dead?all=true")[1]["data"] == {"dropped": 1, "left": 0}


@pytest.mark.parametrize(
    "name", ["..", "x", "018cd0000000-000000000000-", "018cd0000000-000000000000-%D9%A1%D9%A1"]
)
def test_a_name_that_is_none_does_not_become_a_key(collect, name):
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
        assert collect.call(method, f"/dead/{name}{path}")[0] in (400, 404, 405)
    assert collect.get(f"/dead?after={name}")[0] == 400
