"""The header X-Rows: about how many records an answer is, wherever that is known before its body."""

from __future__ import annotations

import pytest

from tests.csvs import wide, wide_row


def rows_of(function, method, path, **how):
    status, _, headers = function.call(method, path, **how)
    assert 200 <= status < 300
    return headers.get("X-Rows")


def upload(pipeline, data):
    return rows_of(
        pipeline.upload, "POST", "/api/v1/csv/upload", body=data, headers={"Content-Type": "text/csv"}
    )


def test_upload_says_how_many_rows_were_accepted(pipeline):
    assert upload(pipeline, wide([wide_row(uuid="GPU-a"), wide_row(uuid="GPU-b"), "nonsense"])) == "2"
    assert rows_of(pipeline.upload, "GET", "/api/v1/status") is None


@pytest.mark.parametrize("path", ["/", "/collect"])
def test_collect_says_how_many_rows_it_moved(pipeline, path):
    pipeline.collect.call("POST", "/")
    upload(pipeline, wide([wide_row(uuid=f"GPU-{n}") for n in range(3)]))
    assert rows_of(pipeline.collect, "POST", path) == "3"
    assert rows_of(pipeline.collect, "POST", path) == "0"


@pytest.mark.parametrize("form", ["json", "ndjson", "csv", "parquet"])
def test_query_says_how_many_records_an_answer_has(fleet, form):
    ask = fleet.query
    one = f"/api/v1/gpus/GPU-own/telemetry?format={form}"
    assert [rows_of(ask, "GET", one) for _ in range(2)] == ["3", "3"]  # made, and kept
    assert rows_of(ask, "GET", f"{one}&limit=2") == "2"
    assert rows_of(ask, "GET", f"/api/v1/telemetry?format={form}&hostname=node-t&limit=50") == "50"
    assert rows_of(ask, "GET", f"/api/v1/telemetry/latest?format={form}&hostname=node-t") == "3"
