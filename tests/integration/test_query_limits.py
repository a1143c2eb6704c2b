"""Limits of a query over HTTP: what does not fit comes with a cursor, and nothing is lost."""

from __future__ import annotations

import pytest
import urllib3

from local_runtime.cli import run
from tests.csvs import wide_history
from tests.functions import running
from tests.integration.asking import ask, fetch, pages, store


@pytest.fixture(scope="module")
def limited(fleet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("limited")
    limits = {"MAX_QUERY_ROWS": "15", "MAX_QUERY_RANGE": "1h"}
    with running("query", folder, etcd=fleet.etcd, prefix=fleet.prefix, **limits) as query:
        yield query


def test_more_records_than_allowed_come_with_a_cursor(fleet, limited):
    path = "/api/v1/gpus/GPU-node-t-1/telemetry?"
    whole = ask(fleet.query, path)["data"]
    body = ask(limited, path)
    assert (body["data"], body["next"] is None) == (whole[:15], False)
    assert pages(limited, path, 1000) == whole[:15] + whole[15:]
    status, body = limited.get(path + "limit=16&format=csv")
    assert (status, body["error"]["details"]["max_query_rows"]) == (413, 15)
    body, headers = fetch(limited, path + "format=ndjson")
    assert len(body.splitlines()) == 15
    assert "cursor=" in headers["Link"]


@pytest.mark.parametrize(("limit", "expected"), [((), 40), (("--limit", "31"), 31), (("--limit", "15"), 15)])
def test_the_command_goes_on_where_an_answer_ends(limited, capsys, limit, expected):
    assert run(["telemetry", "GPU-node-t-1", "--url", limited.url, *limit]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{expected} records"
    assert len({line.split()[0] for line in lines[2:-1]}) == expected


def test_a_window_that_is_too_long_is_refused(limited):
    path = "/api/v1/gpus/GPU-node-t-1/telemetry?"
    assert ask(limited, path + "start_time=2024-01-15T10:00:00Z&end_time=2024-01-15T11:00:00Z")["data"]
    status, body = limited.get(path + "start_time=2024-01-15T10:00:00Z&end_time=2024-01-15T11:00:01Z")
    assert (status, body["error"]["details"]["max_query_range_s"]) == (413, 3600)
    assert "MAX_QUERY_RANGE" in body["error"]["message"]
    # Where it is open, what is stored counts.
    assert ask(limited, path)["data"]
    assert limited.get(path + "start_time=2020-01-01")[0] == 413
    assert limited.get("/api/v1/telemetry?end_time=2030-01-01")[0] == 413


@pytest.fixture(scope="module")
def long_history(pipeline):
    """One GPU with so many records that they are read in several chunks, in segments that overlap."""
    for start, instants in ((0, 25_000), (25_000, 25_000), (12_500, 25_000)):
        store(pipeline, wide_history(1, instants, start=start, host="node-long"))
    return pipeline


@pytest.fixture(scope="module")
def hurried(long_history, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hurried")
    with running(
        "query", folder, etcd=long_history.etcd, prefix=long_history.prefix, MAX_QUERY_TIME="1ms"
    ) as q:
        yield q


@pytest.mark.parametrize(
    "path", ["/api/v1/gpus/GPU-node-long-0/telemetry?", "/api/v1/telemetry?hostname=node-long&"]
)
@pytest.mark.parametrize("more", ["", "order=desc&", "step=7s&agg=count&", "step=7s&agg=count&order=desc&"])
def test_an_answer_that_takes_too_long_goes_on_with_a_cursor(long_history, hurried, path, more):
    path += more + "fields=power_draw&"
    whole = ask(long_history.query, f"{path}limit=100000")["data"]
    assert len(whole) == (50_000 // 7 + 2 if "step" in more else 50_000)
    first = ask(hurried, f"{path}limit=100000")
    assert 0 < first["count"] < len(whole)
    assert first["next"] is not None
    assert pages(hurried, path, 100_000) == whole


def test_without_an_envelope_it_is_said_or_breaks_off(hurried):
    path = "/api/v1/gpus/GPU-node-long-0/telemetry?fields=power_draw&format="
    body, headers = fetch(hurried, path + "csv&limit=100000")
    assert 0 < len(body.splitlines()) < 50_000
    assert "cursor=" in headers["Link"]
    # So short that it is known before the first byte, and so long that it is not.
    status, body = hurried.get(path + "parquet")
    assert (status, body["error"]["code"]) == (413, "limit_exceeded")
    for name in ("ndjson", "csv"):
        answer = urllib3.request("GET", hurried.url + path + name, preload_content=False, retries=False)
        assert answer.status == 200
        with pytest.raises(urllib3.exceptions.HTTPError):
            answer.read()
