"""The sample in the repository is what the generator makes."""

from __future__ import annotations

import csv
import subprocess
import sys

from local_runtime.plan import REPOSITORY

SAMPLES = REPOSITORY / "samples"


def generate(*arguments):
    command = [sys.executable, SAMPLES / "generate.py", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_committed_sample_is_reproducible():
    assert generate("--minutes", "10") == (SAMPLES / "two_hosts.csv").read_text()


def test_the_samples_are_small():
    for file in SAMPLES.glob("*.csv"):
        assert file.stat().st_size < 200_000, file


def test_one_gpu_stops_half_way_and_one_holds_memory_without_working():
    rows = list(csv.DictReader(generate("--minutes", "10").splitlines()))
    last = max(row["timestamp"] for row in rows)
    alive = {(r["hostname"], r["gpu_id"]) for r in rows if r["timestamp"] == last}
    assert len({r["uuid"] for r in rows}) == 16
    assert {(h, str(g)) for h in ("gpu-node-01", "gpu-node-02") for g in range(8)} - alive == {
        ("gpu-node-02", "7")
    }
    hoarder = [r for r in rows if (r["hostname"], r["gpu_id"]) == ("gpu-node-01", "5")]
    assert all(float(r["gpu_utilization"]) == 0 and float(r["memory_used_mb"]) > 60_000 for r in hoarder)
