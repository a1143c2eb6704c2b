"""Running export and import, and what is compared afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds

from tests.functions import ROOT

COMMAND = str(Path(sys.executable).parent / "gpu-telemetry")
KEY = [(name, "ascending") for name in ("uuid", "timestamp", "received_at", "upload_id", "number")]


def collect(pipeline):
    status, body, _ = pipeline.collect.call("POST", "/collect")
    assert status == 200
    assert body["data"]["depth"] == body["data"]["buried"] == 0
    return body["data"]


def run(*arguments, program=(COMMAND,)):
    return subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )


def dying(number):
    return (sys.executable, "-m", "tests.integration.dying_command", str(number))


def ok(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"] if done.stdout.startswith("{") else done.stdout


def export_of(pipeline, folder, *options, program=(COMMAND,)):
    urls = ("--url", pipeline.query.url, "--upload-url", pipeline.upload.url)
    return run("export", folder, *urls, "--json", *options, program=program)


def import_into(pipeline, folder, *options, program=(COMMAND,)):
    return run(
        "import", folder, "--url", pipeline.upload.url, "--no-wait", "--json", *options, program=program
    )


def rows_of(folder):
    """The rows, file by file: also the columns that only some files have."""
    out = []
    for file in sorted(folder.rglob("*.parquet")):
        rows = ds.dataset(file).to_table().sort_by(KEY).to_pylist()
        out += [(file.parent.name, *sorted((k, v) for k, v in r.items() if v is not None)) for r in rows]
    return sorted(out, key=str)


def keys_of(folder):
    """The natural keys of all rows."""
    return {(dict(r[1:])["uuid"], dict(r[1:])["timestamp"]) for r in rows_of(folder)}


def answers(pipeline):
    """What queries answer: every GPU, every record."""
    gpus = pipeline.query.get("/api/v1/gpus")[1]["data"]
    return gpus, {
        g["uuid"]: pipeline.query.get(f"/api/v1/gpus/{g['uuid']}/telemetry")[1]["data"] for g in gpus
    }
