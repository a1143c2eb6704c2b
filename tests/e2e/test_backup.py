"""Export and import through `gpu-telemetry up`: an import waits until its rows can be queried."""

from __future__ import annotations

import json

import pyarrow.dataset as ds

from tests.e2e.conftest import run


def test_a_backup_comes_back_into_a_fresh_pipeline(pipeline, start, tmp_path):
    folder = tmp_path / "backup"
    urls = ("--url", pipeline.urls["query"], "--upload-url", pipeline.urls["upload"])
    done = run("export", folder, *urls)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("exported ")
    assert len(done.stdout.splitlines()) == 1
    fresh = start("--no-sample").wait_ready()
    done = run("import", folder, "--url", fresh.urls["upload"], "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    files = ds.dataset(folder, partitioning="hive", exclude_invalid_files=True)
    assert (data["state"], data["rows"]) == ("stored", files.count_rows())
    path = "/api/v1/telemetry?limit=1000000"
    assert fresh.get("query", path) == pipeline.get("query", path)
    uploads = json.loads(run("uploads", "list", "--json", "--url", fresh.urls["upload"]).stdout)["data"]
    assert {u["imported"] for u in uploads} == {True}
