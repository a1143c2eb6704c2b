"""A queue of 100,000 messages: counted, claimed and drained without ever being read whole."""

from __future__ import annotations

import secrets

import pytest

from functions.collect.drain import Drain
from functions.collect.move import Mover
from shared.etcd import Etcd
from shared.keys import Keys, message_id, new_upload_id
from shared.messages import Origin
from shared.queue import Lease, Queue
from tests.integration.faulty import FaultyEtcd
from tests.integration.records import NOW_MS, encoded, put_many

MESSAGES = 100_000
#: What one call may read, and what counting may read in all.
MOST_READ, MOST_READ_TO_COUNT = 5000, 3000
#: Milliseconds between two uploads.
APART_MS = 10


@pytest.fixture(scope="module")
def long_queue(etcd_endpoint):
    keys = Keys(f"/test-long-{secrets.token_hex(4)}")
    etcd = Etcd([etcd_endpoint])
    origin = Origin(upload_id=new_upload_id(NOW_MS), received_ms=NOW_MS, cluster="default")
    payload = encoded(origin, 0)
    put_many(
        etcd,
        keys,
        [(message_id(new_upload_id(NOW_MS + n * APART_MS), 0), payload) for n in range(MESSAGES)],
    )
    etcd.close()
    return keys, len(payload)


@pytest.fixture
def counting(etcd_endpoint):
    client = FaultyEtcd([etcd_endpoint])
    yield client
    client.close()


def test_it_is_counted_by_samples(counting, long_queue):
    keys, size = long_queue
    depth = Queue(counting, keys).depth(NOW_MS + MESSAGES * APART_MS)
    assert (depth.depth, depth.oldest_age_s) == (MESSAGES, MESSAGES * APART_MS / 1000)
    assert depth.bytes_estimated
    assert depth.bytes == pytest.approx(MESSAGES * size, rel=0.01)
    assert depth.rows == pytest.approx(MESSAGES * 2, rel=0.01)
    assert sum(counting.keys_read) <= MOST_READ_TO_COUNT
    # The samples are from all over it.
    assert sum(counting.keys_read) > 2000


def test_it_is_claimed_and_drained_page_by_page(counting, long_queue):
    keys, _ = long_queue
    queue = Queue(counting, keys)
    lease = Lease(counting, 30)
    claims = queue.claim(queue.list_ready(limit=32), lease)
    assert len(claims) == 32
    assert queue.depth(NOW_MS).claimed == 32
    drain = Drain(queue, lambda: Mover(counting, keys, queue, 30), 2)
    done = drain.take_all(2)
    lease.give_back()
    assert 0 < done.messages < MESSAGES
    assert (done.buried, done.lost, done.released) == (0, 0, 0)
    assert queue.depth_now() == MESSAGES - done.messages
    assert max(counting.keys_read) <= MOST_READ


def test_a_short_queue_is_counted_exactly(counting, keys):
    queue = Queue(counting, keys)
    for n in range(3):
        queue.publish(message_id(new_upload_id(NOW_MS + n), 0), b"x" * (n + 1), rows=n)
    depth = queue.depth(NOW_MS + 1500)
    assert (depth.depth, depth.bytes, depth.rows, depth.bytes_estimated) == (3, 6, 3, False)
    assert (depth.oldest_age_s, depth.claimed, depth.dead) == (1.5, 0, 0)
