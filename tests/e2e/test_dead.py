"""`gpu-telemetry dead` against a running pipeline."""

from __future__ import annotations

import pytest

from shared.clock import now_ms
from shared.etcd import Etcd
from shared.keys import Keys, message_id, new_upload_id
from shared.queue import Queue
from tests.waiting import wait_until


@pytest.fixture
def bad(pipeline):
    """Publish what cannot be decoded and wait until it is a dead letter."""
    endpoint = f"127.0.0.1:{(pipeline.data_dir / 'etcd-port').read_text().strip()}"
    etcd = Etcd([endpoint])
    ids = [message_id(new_upload_id(now_ms()), 0) for _ in range(2)]
    for id_ in ids:
        Queue(etcd, Keys("/telemetry")).publish(id_, b"garbage", rows=1)
    etcd.close()
    wait_until(lambda: pipeline.json("dead", "list")["count"] == 2, 30)
    yield ids
    assert pipeline.run("dead", "drop", "--all", "--yes").returncode == 0


def test_list_and_show(pipeline, bad):
    table = pipeline.run("dead", "list").stdout
    reason = pipeline.json("dead", "list")["data"][0]["reason"]
    for word in (*bad, "REASON", reason, "2 dead letters"):
        assert word in table
    assert "67617262616765" in pipeline.run("dead", "show", bad[0]).stdout
    assert pipeline.json("dead", "show", bad[0])["data"]["rows"] == 1
    assert [x["id"] for x in pipeline.json("dead", "list", "--after", min(bad))["data"]] == [max(bad)]


def test_replay_and_drop(pipeline, bad):
    done = pipeline.run("dead", "replay", bad[0])
    assert (done.returncode, done.stdout) == (0, f"replayed {bad[0]}\n")
    # It is as bad as it was.
    wait_until(lambda: pipeline.json("dead", "list")["count"] == 2, 30)
    assert pipeline.json("dead", "replay", "--all")["data"] == {"replayed": 2, "left": 0}
    wait_until(lambda: pipeline.json("dead", "list")["count"] == 2, 30)
    refused = pipeline.run("dead", "drop", bad[0])
    assert (refused.returncode, "--yes" in refused.stderr, len(refused.stderr.splitlines())) == (2, True, 1)
    done = pipeline.run("dead", "drop", "--yes", bad[0], bad[0])
    assert (done.returncode, done.stdout) == (1, f"dropped {bad[0]}\n")
    assert len(done.stderr.splitlines()) == 1
    assert pipeline.json("dead", "list")["count"] == 1


@pytest.mark.parametrize("act", [("drop", "--yes"), ("replay",)])
def test_no_id_is_not_all_of_them(pipeline, bad, act):
    before = pipeline.json("dead", "list")["data"]
    done = pipeline.run("dead", *act, "")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert pipeline.json("dead", "list")["data"] == before


def test_failures_are_one_line(pipeline):
    for arguments, status in [(("show", "x"), 1), (("replay",), 2), (("drop", "--all", "x", "--yes"), 2)]:
        done = pipeline.run("dead", *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (status, 1)
