"""`gpu-telemetry uploads` and `gpu-telemetry retention` against real functions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from local_runtime.commands.upload import wait_until_stored
from shared import clock
from shared.client import Client
from shared.errors import Conflict
from shared.keys import Keys, message_id, new_upload_id
from shared.messages import Origin
from shared.queue import Queue
from tests.csvs import wide, wide_row
from tests.integration.records import encoded

COMMAND = str(Path(sys.executable).parent / "gpu-telemetry")


def run(*arguments):
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def on_upload(pipeline, *arguments):
    return run("uploads", *arguments, "--url", pipeline.upload.url)


def on_collect(pipeline, *arguments):
    return run("retention", *arguments, "--url", pipeline.collect.url)


@pytest.fixture
def upload(pipeline, request):
    """An upload of two rows, stored."""
    uuid = f"GPU-{request.node.name[:40]}"
    data = wide([wide_row(uuid=uuid), wide_row(uuid=uuid, time="2024-01-15T10:31:00Z")])
    report = pipeline.upload.upload(data, query="?filename=a.csv")[1]["data"]
    pipeline.collect.call("POST", "/collect")
    return report["upload_id"]


def test_uploads_are_listed_and_shown(pipeline, upload):
    lines = on_upload(pipeline, "list").stdout.splitlines()
    assert lines[0].split()[:3] == ["UPLOAD", "RECEIVED", "FILE"]
    assert lines[1].split()[0] == upload
    assert "a.csv" in lines[1]
    listed = json.loads(on_upload(pipeline, "list", "--json", "--limit", "1").stdout)
    assert (listed["count"], listed["data"][0]["accepted"]) == (1, 2)
    shown = on_upload(pipeline, "show", upload).stdout
    assert "stored" in shown
    assert json.loads(on_upload(pipeline, "show", upload, "--json").stdout)["data"]["upload_id"] == upload


def test_an_upload_is_undone_once_somebody_says_yes(pipeline, upload):
    looked = on_upload(pipeline, "delete", upload, "--dry-run")
    assert (looked.returncode, looked.stdout.splitlines()[0].split()) == (0, ["WOULD", "GO"])
    assert ["rows", "2"] in [line.split() for line in looked.stdout.splitlines()]
    asked = on_upload(pipeline, "delete", upload)
    assert asked.returncode == 2
    assert "--yes" in asked.stderr.splitlines()[-1]
    assert json.loads(on_upload(pipeline, "show", upload, "--json").stdout)["data"]["state"] == "stored"
    done = on_upload(pipeline, "delete", upload, "--yes")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"upload {upload} is deleted: 2 rows")
    listed = json.loads(on_upload(pipeline, "list", "--json").stdout)["data"]
    assert {u["upload_id"]: u.get("state") for u in listed}[upload] == "deleted"


def test_an_upload_that_was_undone_is_not_waited_for(pipeline, upload):
    client = Client(pipeline.upload.url)
    assert wait_until_stored(client, upload) == "stored"
    client.delete_upload(upload, dry_run=False)
    with pytest.raises(Conflict, match="was undone meanwhile"):
        wait_until_stored(client, upload)


def test_an_unknown_upload_is_one_line(pipeline):
    for command in ("show", "delete"):
        done = on_upload(pipeline, command, "00000000000a-aaaaaaaaaaaa")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_retention_shows_the_days_and_sweeps_only_what_is_past(pipeline, upload):
    done = on_collect(pipeline)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("retention 7d: uploads from ")
    assert "nothing is past retention" in done.stdout
    answer = json.loads(on_collect(pipeline, "--json", "--dry-run").stdout)["data"]
    assert [day["expired"] for day in answer["days"]] == [False]


def test_what_is_past_retention_goes_once_somebody_says_yes(pipeline, etcd):
    received_ms = clock.now_ms() - 30 * 86_400_000
    origin = Origin(upload_id=new_upload_id(received_ms), received_ms=received_ms, cluster="c")
    Queue(etcd, Keys(pipeline.prefix)).publish(message_id(origin.upload_id, 0), encoded(origin, 0), rows=2)
    pipeline.collect.call("POST", "/collect")
    shown = on_collect(pipeline, "--dry-run")
    assert "2 rows of 1 days" in shown.stdout
    asked = on_collect(pipeline)
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    done = on_collect(pipeline, "--yes")
    assert (done.returncode, done.stdout.splitlines()[-1].split(" (")[0]) == (0, "deleted 2 rows of 1 days")
    assert "nothing is past retention" in on_collect(pipeline).stdout
