"""Admission on real etcds: full queues, and a database that is almost or wholly full."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace

import pytest

from local_runtime.embedded_etcd import build_spec
from local_runtime.etcd_binary import find_etcd
from local_runtime.guard import Guard
from local_runtime.instance import Child
from shared.config import read_variable
from shared.errors import NoSpace
from shared.etcd import Delete, Etcd, Get, Put
from shared.keys import Keys
from shared.queue import Queue
from shared.queue.gate import Gauge
from tests.csvs import wide_history
from tests.functions import free_port, running
from tests.waiting import wait_until

QUOTA_BYTES = 16 * 1024 * 1024
_PIECE_BYTES = 100_000
#: About three messages.
LONG = wide_history(20, 2000)


@pytest.fixture
def small_etcd(tmp_path):
    """An etcd that is full soon."""
    port = free_port()
    spec = build_spec(find_etcd(read_variable("PATH")), tmp_path, port=port)
    command = [c for c in spec.command if "quota" not in c]
    with Guard() as guard:
        child = Child(replace(spec, command=(*command, f"--quota-backend-bytes={QUOTA_BYTES}")), guard)
        child.start()
        try:
            wait_until(child.is_ready)
            yield f"127.0.0.1:{port}"
        finally:
            child.stop()


def upload(function, data=None):
    """Return (status, error or data, Retry-After)."""
    status, body, headers = function.call(
        "POST",
        "/api/v1/csv/upload",
        body=data or wide_history(2, 10, host=secrets.token_hex(4)),
        headers={"Content-Type": "text/csv"},
    )
    return status, body.get("error") or body["data"], headers.get("Retry-After")


def fill(etcd, share):
    """Put what is not the queue's until so much of the quota is in use."""

    def is_full():
        # etcd says how much is in use only some 100 ms later.
        missing = share * QUOTA_BYTES - etcd.status().db_in_use_bytes
        for _ in range(int(missing / _PIECE_BYTES / 2) + 1):
            etcd.txn([], [Put(f"/other/{secrets.token_hex(8)}", secrets.token_bytes(_PIECE_BYTES))])
        return missing <= 0

    wait_until(is_full, every_s=0.2)


def test_the_gauge_reads_queue_and_database(small_etcd, prefix):
    etcd = Etcd([small_etcd])
    queue = Queue(etcd, Keys(prefix))
    reading = Gauge(etcd, queue, [small_etcd]).read()
    assert (reading.messages, reading.quota_bytes, reading.space_alarm) == (0, QUOTA_BYTES, False)
    assert 0 < reading.database_bytes < QUOTA_BYTES
    assert Gauge(etcd, queue, [small_etcd], 12345).read().quota_bytes == 12345
    assert Gauge(etcd, queue, [f"127.0.0.1:{free_port()}"]).read_quota() == 2 * 1024**3
    etcd.close()


def test_a_full_queue_refuses_until_it_is_moved(etcd_endpoint, prefix, tmp_path):
    where = {"etcd": etcd_endpoint, "prefix": prefix}
    with (
        running("upload", tmp_path, **where, MAX_QUEUE_MESSAGES="4") as function,
        running("collect", tmp_path, **where) as collect,
    ):
        for _ in range(4):
            assert upload(function)[0] == 200
        status, error, retry_after = upload(function)
        assert (status, error["code"], retry_after) == (503, "unavailable", "5")
        assert "4 messages, and MAX_QUEUE_MESSAGES is 4" in error["message"]
        assert collect.call("POST", "/collect")[1]["data"]["messages"] == 4
        wait_until(lambda: upload(function)[0] == 200)


def test_a_long_upload_that_meets_a_mark_says_what_is_safe(etcd_endpoint, prefix, tmp_path):
    where = {"etcd": etcd_endpoint, "prefix": prefix}
    with running("upload", tmp_path, **where, MAX_QUEUE_MESSAGES="2") as function:
        status, error, retry_after = upload(function, LONG)
        assert (status, retry_after) == (503, "5")
        assert "MAX_QUEUE_MESSAGES" in error["message"]
        assert "upload the whole file again" in error["message"]
        assert 0 < error["details"]["records_safe"] < 40_000
        assert error["details"]["upload_id"]


def test_a_database_that_fills_is_503_while_the_queue_holds_some_and_507_when_not(
    small_etcd, prefix, tmp_path
):
    where = {"etcd": small_etcd, "prefix": prefix}
    etcd = Etcd([small_etcd])
    with contextlib.ExitStack() as stack:
        function = stack.enter_context(running("upload", tmp_path, **where))
        collect = stack.enter_context(running("collect", tmp_path, **where))
        assert upload(function)[0] == 200
        fill(etcd, 0.7)
        status, error, retry_after = wait_until(lambda: refused(function))
        assert (status, retry_after) == (503, "15")
        assert "60%" in error["message"]
        assert collect.call("POST", "/collect")[1]["data"]["messages"] >= 1
        # Moved, and still as full: one who has not seen the queue hold anything waits for nothing.
        other = stack.enter_context(running("upload", tmp_path, **where))
        status, error, _ = upload(other)
        assert (status, error["code"]) == (507, "no_space")
        assert "RETENTION" in error["message"]
        clear(etcd)
        wait_until(lambda: accepted(function, etcd))
        wait_until(lambda: accepted(other, etcd))
    etcd.close()


def test_no_space_is_507_and_no_hang_until_the_alarm_is_disarmed(small_etcd, prefix, tmp_path):
    where = {"etcd": small_etcd, "prefix": prefix}
    etcd = Etcd([small_etcd])
    with (
        running("upload", tmp_path, **where, ETCD_QUOTA_BYTES="1000GiB") as blind,
        running("upload", tmp_path, **where) as function,
        running("collect", tmp_path, **where) as collect,
    ):
        assert upload(function)[0] == 200
        with pytest.raises(NoSpace):
            fill(etcd, 2)
        assert etcd.has_space_alarm()
        status, error, _ = wait_until(lambda: refused(function))
        assert (status, error["code"]) == (507, "no_space")
        # One that takes the quota for larger hears it from etcd itself.
        assert upload(blind)[:1] == (507,)
        status, body, _ = collect.call("POST", "/collect")
        assert (status, body["error"]["code"]) == (507, "no_space")
        clear(etcd)
        wait_until(lambda: shrunk(etcd, small_etcd))
        etcd.disarm_space_alarm()
        wait_until(lambda: accepted(function, etcd))
        assert collect.call("POST", "/collect")[1]["data"]["messages"] >= 2
    etcd.close()


def refused(function):
    """Upload once more, and return the answer if it is not 200."""
    answer = upload(function)
    return None if answer[0] == 200 else answer


def clear(etcd):
    """Delete what filled the database, and let etcd forget it."""
    for item in etcd.read(Get("/other/", "/other0")).items:
        etcd.txn([], [Delete(item.key)])
    etcd.compact(etcd.status().revision)


def shrunk(etcd, endpoint):
    """Defragment; it takes effect when the compaction, which goes on in the background, has ended."""
    etcd.defragment(endpoint)
    return etcd.status().db_size_bytes < QUOTA_BYTES / 2


def write(etcd):
    """Write a little, as every tick does: etcd counts pages as free only when it writes again."""
    with contextlib.suppress(NoSpace):
        etcd.txn([], [Put("/tick")])


def accepted(function, etcd):
    write(etcd)
    return upload(function)[0] == 200
