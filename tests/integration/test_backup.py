"""Export and import against real functions: what comes back is what was there, whatever breaks in between."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from local_runtime.backup.lock import holding
from shared.etcd import Delete, Get, Put, prefix_end
from shared.keys import Keys
from tests.csvs import long, long_row, wide, wide_history, wide_row
from tests.functions import running
from tests.integration.backing_up import answers, collect, dying, export_of, import_into, keys_of, ok, rows_of

COMMAND = str(Path(sys.executable).parent / "gpu-telemetry")
KEY = [(name, "ascending") for name in ("uuid", "timestamp", "received_at", "upload_id", "number")]


@pytest.fixture(scope="module")
def target(etcd_endpoint, tmp_path_factory):
    """A second pipeline on the same etcd, under another prefix."""
    folder = tmp_path_factory.mktemp("target")
    where = {"etcd": etcd_endpoint, "prefix": f"/test-{secrets.token_hex(6)}"}
    with contextlib.ExitStack() as stack:
        functions = {
            n: stack.enter_context(running(n, folder, **where)) for n in ("upload", "collect", "query")
        }
        yield SimpleNamespace(**functions, **where)


def empty(pipeline, etcd):
    prefix = pipeline.prefix + "/"
    for item in etcd.read(Get(prefix, prefix_end(prefix))).items:
        etcd.txn([], [Delete(item.key)])
    # Query looks at the index again when the bell rings.
    etcd.txn([], [Put(Keys(pipeline.prefix).store_bell, b"{}")])


@pytest.fixture
def emptied(target, etcd):
    """The second pipeline, with nothing in it."""
    empty(target, etcd)
    return target


@pytest.fixture(scope="module")
def filled(pipeline):
    """The first pipeline, with rows that overlap, of several days, dialects and columns."""
    uploads = [
        wide_history(3, 40, host="node-a"),
        wide_history(3, 40, host="node-a", start=20, util=""),
        wide([wide_row(host="node-a", util="1", temp="", power=""), wide_row(uuid="GPU-epoch", time="1970-01-01T00:00:01Z")]),
        wide([wide_row(host="node-a", util="", temp="99", power="1")]),
        long([
            long_row("DCGM_FI_DEV_GPU_UTIL", "5", pod="train-1"),
            long_row("DCGM_FI_PROF_SM_ACTIVE", "0.5"),
            long_row("DCGM_FI_DEV_GPU_UTIL", "6", time="2025-07-18T20:42:34.125Z", pod="train-2"),
            long_row("my_own_metric", "-7.25", time="2025-07-20T00:00:00Z"),
        ]),
        wide([wide_row(host="node-b", time=f"2024-0{m}-01T00:00:00Z") for m in range(1, 10)]),
    ]  # fmt: skip
    for number, data in enumerate(uploads):
        status, body = pipeline.upload.upload(data, query=f"?filename={number}.csv")
        assert status == 200, body
        if number % 2:
            collect(pipeline)
    collect(pipeline)
    return pipeline


@pytest.fixture(scope="module")
def whole(filled, tmp_path_factory):
    """An export of it in several parts."""
    folder = tmp_path_factory.mktemp("whole")
    ok(export_of(filled, folder, "--part-rows", "40"))
    return folder


def test_what_is_exported_and_imported_answers_the_same(filled, emptied, tmp_path):
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    exported = ok(export_of(filled, first))
    assert (exported["uploads"], exported["queued"]) == (6, 0)
    assert exported["rows"] == len(rows_of(first)) > 150
    imported = ok(import_into(emptied, first))
    assert (imported["rows"], imported["values_nulled"]) == (exported["rows"], 0)
    assert (imported["records_put"], imported["records_present"]) == (6, 0)
    collect(emptied)
    assert answers(emptied) == answers(filled)
    ok(export_of(emptied, second))
    assert rows_of(second) == rows_of(first)
    # Once more changes nothing: no answer, and no row of the next export.
    assert ok(import_into(emptied, first))["records_present"] == 6
    collect(emptied)
    assert answers(emptied) == answers(filled)
    ok(export_of(emptied, third))
    assert rows_of(third) == rows_of(first)


def test_later_uploads_stay_when_an_older_export_comes_in(filled, whole, emptied):
    newer = wide([wide_row(host="node-a", util="77", temp="", power="")])
    assert emptied.upload.upload(newer)[0] == 200
    ok(import_into(emptied, whole))
    collect(emptied)
    record = answers(emptied)[1]["GPU-node-a-0"]
    before = answers(filled)[1]["GPU-node-a-0"]
    changed = [(a, b) for a, b in zip(record, before, strict=True) if a != b]
    assert [(a["gpu_utilization"], a["temperature"]) for a, _ in changed] == [
        (77.0, changed[0][1]["temperature"])
    ]


def test_the_files_are_plain_parquet_by_day(filled, tmp_path):
    ok(export_of(filled, tmp_path))
    files = sorted(f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*.parquet"))
    assert files[0].startswith("date=1970-01-01/part-")
    assert len({f.partition("/")[0] for f in files}) == 13
    schema = ds.dataset(tmp_path / files[0]).schema
    types = {name: str(schema.field(name).type) for name in ("uuid", "timestamp", "pod", "power_draw", "received_at", "upload_id", "number")}  # fmt: skip
    assert types == {
        "uuid": "string",
        "timestamp": "timestamp[ms, tz=UTC]",
        "pod": "string",
        "power_draw": "double",
        "received_at": "int64",
        "upload_id": "string",
        "number": "int32",
    }
    table = ds.dataset(tmp_path, partitioning="hive", exclude_invalid_files=True).to_table()
    assert {(r["date"], r["timestamp"].strftime("%Y-%m-%d")) for r in table.to_pylist()} == {
        (f[5:15], f[5:15]) for f in files
    }
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {"my_own_metric", "sm_active"} <= set(manifest["columns"])
    one_day = ds.dataset(tmp_path / "date=2024-01-15").to_table()
    assert one_day.equals(one_day.sort_by(KEY[:2]))


@pytest.mark.parametrize("number", [1, 2, 4, 8, 9, 11, 14, 23, 30])
def test_an_export_killed_anywhere_goes_on(filled, whole, tmp_path, number):
    broken = tmp_path / "broken"
    options = ("--part-rows", "40")
    done = export_of(filled, broken, *options, program=dying(number))
    assert done.returncode == -signal.SIGKILL
    ok(export_of(filled, broken, *options))
    assert rows_of(broken) == rows_of(whole)
    assert not list(broken.rglob("*.tmp"))
    listed = json.loads((broken / "manifest.json").read_text())["done"]
    assert {f["path"] for files in listed.values() for f in files} == {
        f.relative_to(broken).as_posix() for f in broken.rglob("*.parquet")
    }


@pytest.mark.parametrize("number", [1, 3, 4, 6, 9])
def test_an_import_killed_anywhere_goes_on(filled, whole, emptied, tmp_path, number):
    options = ("--part-rows", "40")
    done = import_into(emptied, whole, *options, program=dying(number))
    assert done.returncode == -signal.SIGKILL
    assert ok(import_into(emptied, whole, *options))["rows"] == len(rows_of(whole))
    collect(emptied)
    assert answers(emptied) == answers(filled)
    ok(export_of(emptied, tmp_path))
    assert rows_of(tmp_path) == rows_of(whole)
    assert not list(whole.glob(".import-*"))


def test_a_resumed_import_sends_only_what_is_left(whole, emptied):
    assert import_into(emptied, whole, "--part-rows", "40", program=dying(7)).returncode < 0
    sent = json.loads(next(whole.glob(".import-*.json")).read_text())["uploads"]
    assert len(sent) >= 2
    assert ok(import_into(emptied, whole, "--part-rows", "40"))["uploads"][: len(sent)] == sent


@pytest.mark.parametrize("number", [3, 5])
def test_other_parquet_with_versions_is_imported_row_group_by_row_group(emptied, tmp_path, number):
    rows = 64
    table = pa.table({
        "uuid": [f"GPU-{i % 2}" for i in range(rows)],
        "timestamp": pa.array(range(rows), pa.timestamp("us", "UTC")).cast(pa.int64()).cast(pa.timestamp("s", "UTC")),
        "upload_id": ["00000000000a-aaaaaaaaaaaa"] * rows,
        "received_at": [10] * rows,
        "number": [0] * rows,
        "power_draw": pa.array(range(rows), pa.int32()),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "mine.parquet", row_group_size=8)
    # Each request is followed by two changes, of the journal: a request was sent and is not written down.
    assert import_into(emptied, tmp_path, "--part-rows", "8", program=dying(number)).returncode < 0
    journal = json.loads(next(tmp_path.glob(".import-*.json")).read_text())
    assert journal["files"]["mine.parquet"]["groups"] == number // 2
    assert ok(import_into(emptied, tmp_path, "--part-rows", "8"))["rows"] == rows
    collect(emptied)
    found = answers(emptied)[1]
    assert sorted(r["power_draw"] for records in found.values() for r in records) == list(range(rows))


def test_a_file_without_versions_is_refused_with_its_name(emptied, tmp_path):
    pq.write_table(pa.table({"uuid": ["a"], "timestamp": [1]}), tmp_path / "mine.parquet")
    done = import_into(emptied, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "mine.parquet has no column received_at, upload_id, number" in done.stderr


def test_an_import_begun_into_a_pipeline_that_was_emptied_begins_anew(whole, emptied, etcd):
    assert import_into(emptied, whole, "--part-rows", "40", program=dying(7)).returncode < 0
    empty(emptied, etcd)
    done = import_into(emptied, whole)
    assert "begins anew" in done.stderr
    assert collect(emptied)["rows"] == len(rows_of(whole))


@pytest.mark.parametrize("number", [0, -1])
def test_an_import_of_which_an_upload_was_undone_begins_anew(filled, whole, emptied, number):
    assert import_into(emptied, whole, "--part-rows", "40", program=dying(7)).returncode < 0
    sent = json.loads(next(whole.glob(".import-*.json")).read_text())["uploads"]
    assert len(set(sent)) >= 2
    collect(emptied)
    assert emptied.upload.call("DELETE", f"/api/v1/uploads/{sent[number]}")[0] == 200
    done = import_into(emptied, whole)
    assert "begins anew" in done.stderr
    assert not set(ok(done)["uploads"]) & set(sent)
    collect(emptied)
    assert answers(emptied) == answers(filled)


def test_one_export_and_one_import_at_a_time(filled, whole, emptied, tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    journal = f".import-{emptied.upload.url.removeprefix('http://').replace(':', '-')}.lock"
    with holding(folder / ".export.lock", ""), holding(whole / journal, ""):
        refused = [(export_of(filled, folder), f"another export writes to {folder}")]
        refused.append((import_into(emptied, whole), f"another import of {whole} into {emptied.upload.url}"))
    for done, reason in refused:
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert reason in done.stderr
    assert not list(folder.iterdir())
    # Where no lock can be, as in a folder that is read-only, an import does without.
    ok(export_of(filled, folder))
    (folder / journal).mkdir()
    ok(import_into(emptied, folder))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 8, 14])
def test_an_export_that_is_overwritten_and_killed_anywhere_can_be_made_again(filled, whole, tmp_path, number):
    options = ("--overwrite", "--part-rows", "40")
    ok(export_of(filled, tmp_path))
    assert export_of(filled, tmp_path, *options, program=dying(number)).returncode == -signal.SIGKILL
    done = export_of(filled, tmp_path, *options[1:])
    if done.returncode:  # it was still the old one
        assert "holds a finished export" in done.stderr
        ok(export_of(filled, tmp_path, *options))
    assert rows_of(tmp_path) == rows_of(whole)
    assert not list(tmp_path.rglob("*.tmp"))


def test_nothing_is_lost_while_the_store_is_compacted_and_overwritten(whole, emptied, tmp_path):
    ok(import_into(emptied, whole))
    collect(emptied)
    done = threading.Event()

    def churn():
        tick = {
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-type": "dev.knative.sources.ping",
            "ce-source": "/x",
        }
        while not done.is_set():
            emptied.upload.upload(wide_history(3, 60, host="node-a"))
            emptied.collect.call("POST", "/", headers=tick, body=b"{}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        ok(export_of(emptied, tmp_path, "--part-rows", "3"))
    finally:
        done.set()
        thread.join()
    assert keys_of(tmp_path) == keys_of(whole)


def test_a_finished_export_is_kept_unless_told(filled, tmp_path):
    ok(export_of(filled, tmp_path))
    before = (tmp_path / "manifest.json").read_bytes()
    done = export_of(filled, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "--overwrite" in done.stderr
    assert (tmp_path / "manifest.json").read_bytes() == before
    ok(export_of(filled, tmp_path, "--overwrite", "--part-rows", "30"))
    names = {f.name for f in tmp_path.rglob("*.parquet")}
    assert len(names) > 3


def test_a_folder_of_something_else_is_left_alone(filled, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = export_of(filled, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "thesis.txt" in done.stderr
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_file_is_refused_by_name(filled, emptied, tmp_path):
    ok(export_of(filled, tmp_path))
    file = min(tmp_path.rglob("*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    done = import_into(emptied, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert file.name in done.stderr
    assert "damaged" in done.stderr


def test_rows_that_came_after_the_beginning_are_not_in_a_resumed_export(whole, emptied, tmp_path):
    """But rows that were overwritten meanwhile are not lost: the newer ones stand in for them."""
    folder = tmp_path / "x"
    ok(import_into(emptied, whole))
    collect(emptied)
    assert export_of(emptied, folder, "--part-rows", "40", program=dying(12)).returncode < 0
    emptied.upload.upload(wide_history(3, 40, host="node-a"))
    emptied.upload.upload(
        wide([wide_row(uuid="GPU-new"), wide_row(host="node-a", time="2024-01-15T23:00:00Z")])
    )
    collect(emptied)
    ok(export_of(emptied, folder))
    rows = rows_of(folder)
    until = json.loads((folder / "manifest.json").read_text())["until_ms"]
    later = [dict(r[1:]) for r in rows if dict(r[1:])["received_at"] >= until]
    assert all(r["uuid"].startswith("GPU-node-a-") and r["timestamp"].hour == 10 for r in later)
    assert keys_of(folder) == keys_of(whole)


def test_an_empty_pipeline_exports_nothing_and_that_can_be_imported(emptied, tmp_path):
    assert ok(export_of(emptied, tmp_path))["rows"] == 0
    assert ok(import_into(emptied, tmp_path))["rows"] == 0


def test_uploads_are_listed_newest_first_page_by_page(filled, whole, emptied):
    status, body = filled.upload.get("/api/v1/uploads")
    listed = body["data"]
    assert [u["filename"] for u in listed] == [f"{n}.csv" for n in reversed(range(6))]
    assert (
        listed[0].items() >= {"accepted": 9, "rejected": 0, "gpus": 1, "hosts": 1, "imported": False}.items()
    )
    paged, before = [], ""
    while before is not None:
        status, body = filled.upload.get(f"/api/v1/uploads?limit=4{before and '&before=' + before}")
        assert status == 200
        paged += body["data"]
        before = body["next"]
    assert paged == listed
    ok(import_into(emptied, whole))
    back = emptied.upload.get("/api/v1/uploads")[1]["data"]
    assert all(u["imported"] for u in back)
    assert [u["upload_id"] for u in back[1:]] == [u["upload_id"] for u in listed]
    for query in ("before=x", "full=maybe", "limit=0", "after=1"):
        assert emptied.upload.get(f"/api/v1/uploads?{query}")[0] == 400
