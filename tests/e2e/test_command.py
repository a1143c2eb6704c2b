"""The subcommands against a running pipeline."""

from __future__ import annotations

import json
import subprocess

from local_runtime.plan import REPOSITORY
from local_runtime.ports import find_free_port
from tests.e2e.conftest import COMMAND, run
from tests.waiting import wait_until

SAMPLE = REPOSITORY / "samples" / "two_hosts.csv"
SOME_BAD = REPOSITORY / "samples" / "some_bad_rows.csv"
BUSY_GPU = "GPU-e817a7df-505d-5708-9a37-c8d4ec80a831"
WINDOW = ("--start", "2024-01-15T10:30:00Z", "--end", "2024-01-15T10:31:00Z")


def test_the_sample_is_there_and_fresh(pipeline):
    wait_until(lambda: "5580 synthetic records of 16 GPUs on 2 hosts" in pipeline.output)
    stale = [g["hostname"] + "/" + g["id"] for g in pipeline.json("gpus")["data"] if g["status"] != "active"]
    assert stale == ["gpu-node-02/7"]


def test_upload_and_ask(pipeline):
    answer = pipeline.json("upload", SAMPLE, "--wait")
    assert (answer["data"]["rows"], answer["data"]["rejected"], answer["data"]["state"]) == (930, 0, "stored")
    records = pipeline.json("telemetry", BUSY_GPU, *WINDOW)
    assert [r["timestamp"] for r in records["data"]] == [
        f"2024-01-15T10:30:{s:02}Z" for s in range(0, 60, 10)
    ]
    assert pipeline.json("telemetry", "0", "--hostname", "gpu-node-01", *WINDOW) == records


def test_records_in_other_formats_fields_and_order(pipeline):
    assert pipeline.run("upload", SAMPLE, "--wait").returncode == 0
    chosen = ("--fields", "DCGM_FI_DEV_POWER_USAGE", "--order", "desc")
    lines = pipeline.run("telemetry", BUSY_GPU, *WINDOW, *chosen, "--format", "csv").stdout.splitlines()
    assert lines[0] == "timestamp,gpu_id,uuid,hostname,power_draw"
    assert [line[17:19] for line in lines[1:]] == ["50", "40", "30", "20", "10", "00"]
    table = pipeline.run("telemetry", BUSY_GPU, *WINDOW, "--step", "1m", "--agg", "max").stdout.splitlines()
    assert table[-1] == "1 records"


def test_tables_hold_the_same(pipeline):
    assert pipeline.run("upload", SAMPLE, "--wait").returncode == 0
    table = pipeline.run("telemetry", BUSY_GPU, *WINDOW).stdout.splitlines()
    assert table[0].startswith(BUSY_GPU)
    assert table[1].split()[:4] == ["timestamp", "hostname", "gpu_id", "gpu_utilization"]
    assert table[2].split()[:4] == ["2024-01-15T10:30:00Z", "gpu-node-01", "0", "90.4"]
    assert table[-1] == "6 records"
    assert BUSY_GPU in pipeline.run("gpus").stdout


def test_bad_rows_are_listed_below_the_report(pipeline):
    done = pipeline.run("upload", SOME_BAD)
    assert done.returncode == 0
    assert "rejected" in done.stdout
    assert "yesterday" in done.stdout
    assert "808334905" in done.stdout


def test_a_bad_file_does_not_keep_the_others_from_being_uploaded(pipeline, tmp_path):
    (tmp_path / "bad.csv").write_text("colour,taste\nred,sweet\n")
    done = pipeline.run("upload", "--json", tmp_path / "bad.csv", tmp_path / "none.csv", SAMPLE)
    assert done.returncode == 1
    bad, none, good = (json.loads(line) for line in done.stdout.splitlines())
    assert (bad["success"], none["success"], good["success"]) == (False, False, True)
    assert len(done.stderr.splitlines()) == 2
    assert "bad.csv" in done.stderr
    assert "none.csv" in done.stderr


def test_failures_are_one_line(pipeline):
    for arguments, said in [
        (("telemetry", "GPU-nobody"), "GPU-nobody"),
        (("telemetry", "0"), "hostname"),
        (("telemetry", BUSY_GPU, "--start", "yesterday"), "yesterday"),
    ]:
        done = pipeline.run(*arguments)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert said in done.stderr


def test_status_is_one_table(pipeline):
    done = pipeline.run("status")
    assert done.returncode == 0
    for word in ("upload", "query", "collect", "healthy", "depth", "db_size", "quota 8.0 GiB", "MiB"):
        assert word in done.stdout
    data = pipeline.json("status")["data"]
    assert data["functions"]["query"]["status"] == "healthy"
    assert (data["queue"]["dead"], data["queue"]["bytes_estimated"]) == (0, False)
    assert 0 < data["etcd"]["db_in_use_bytes"] <= data["etcd"]["db_size_bytes"]
    assert data["etcd"]["memory_bytes"] > 1_000_000
    assert data["etcd"]["quota_bytes"] == 8 * 1024**3


def test_without_a_pipeline_one_line_says_so():
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    for arguments in (("gpus",), ("telemetry", "x"), ("upload", SAMPLE)):
        done = run(*arguments, "--url", nowhere)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "is `gpu-telemetry up` running" in done.stderr


def test_help_and_version():
    assert "telemetry" in run("--help").stdout
    assert run("--version").stdout.startswith("gpu-telemetry 0.")


def test_a_reader_that_leaves_early_is_no_failure_worth_a_traceback(pipeline):
    url = pipeline.urls["query"]
    line = f"{COMMAND} telemetry {BUSY_GPU} --url {url} | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.startswith(BUSY_GPU)
    assert not done.stderr
