"""The subcommands that ask the fleet and follow it, against a running pipeline with the sample."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

from local_runtime.ports import find_free_port
from tests.csvs import wide, wide_row
from tests.e2e.conftest import COMMAND, run
from tests.waiting import wait_until


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ((), "idle holding memory   1"),
        (("idle",), "61440"),
        (("throttled",), "sw_power_cap"),
        (("errors",), "XID 79"),
        (("busy-but-empty",), "gpu-node-02"),
        (("missing", "--start", "now-20m"), "gpu-node-02"),
        (("top", "--field", "power_draw", "--limit", "1"), "gpu-node-0"),
        (("utilization", "--by", "model"), "NVIDIA H100 80GB HBM3"),
    ],
)
def test_the_sample_has_something_for_each_question(pipeline, question, found):
    done = pipeline.run("fleet", *question)
    assert done.returncode == 0, done.stderr
    assert found in done.stdout
    assert "(the last hour)" in done.stdout or "--start" in question


def test_what_nobody_reported_is_said(pipeline):
    assert "not reported: tensor_active, dram_active" in pipeline.run("fleet", "utilization").stdout
    assert pipeline.json("fleet")["data"]["not_reported"]


def test_an_option_of_another_question_is_refused(pipeline):
    for arguments, said in ((("idle", "--field", "x"), "fleet top"), (("top",), "--field power_draw")):
        done = pipeline.run("fleet", *arguments)
        assert done.returncode == 2
        assert said in done.stderr


def test_records_are_printed_as_they_are_stored(pipeline):
    command = [COMMAND, "tail", "--host", "tailed", "--field", "power_draw", "--url", pipeline.urls["query"]]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
    reader.start()

    def arrives():
        # Until it is subscribed nothing comes: so again and again.
        pipeline._http.request(
            "POST",
            pipeline.urls["upload"] + "/api/v1/csv/upload",
            body=wide([wide_row(host="tailed", uuid="GPU-tailed"), wide_row(host="other", uuid="GPU-other")]),
            headers={"Content-Type": "text/csv"},
        )
        return bool(lines)

    try:
        wait_until(arrives, 20, every_s=0.3)
    finally:
        process.terminate()
        process.wait(10)
        reader.join(10)
        process.stdout.close()
    records = [json.loads(line) for line in lines]
    assert {r["uuid"] for r in records} == {"GPU-tailed"}
    assert records[0]["power_draw"] == 350.5


def test_following_what_is_not_there_is_one_line():
    done = run("tail", "--url", f"http://127.0.0.1:{find_free_port()}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "is `gpu-telemetry up` running" in done.stderr
