"""A start from zero imports what its first answer needs and nothing that takes long beside it.

How long it takes is measured by `python -m benchmarks coldstart`; this holds what was gained.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys

import pytest

from tests.csvs import wide_history
from tests.functions import ROOT

#: Never needed for a first answer: some are not needed at all, some only for what is seldom asked first.
NEVER = (
    "apispec",
    "asyncio.events",
    "croniter",
    "dateutil",
    "etcd3.client",
    "flask_swagger_ui",
    "google.protobuf.text_format",
    "graphql",
    "grpc.aio",
    "numpy",
    "pandas",
    "prometheus_client",
    "pyarrow._dataset",
    "pyarrow._s3fs",
    "pyarrow.vendored.docscrape",
    "pydantic_settings",
    "shared.api.all",
    "shared.api.openapi",
    "simple_websocket",
    "urllib3",
    "_strptime",
)
TICK = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-type": "dev.knative.sources.ping",
    "ce-source": "/apis/v1/namespaces/default/pingsources/collect-tick",
    "Content-Type": "application/json",
}


@pytest.fixture(scope="module")
def ask(etcd_endpoint):
    """Start a function for one request; returns the answer's body and the modules that were loaded."""
    prefix = f"/test-{secrets.token_hex(6)}"
    environment = {**os.environ, "ETCD_ENDPOINTS": etcd_endpoint, "MESSAGE_QUEUE_PREFIX": prefix}

    def ask(function, method, path, headers=None, body=""):
        asked = {"method": method, "path": path, "headers": headers or {}, "body": body}
        program = [sys.executable, "-m", "tests.integration.first_answer", function, json.dumps(asked)]
        done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, check=True)
        answer = json.loads(done.stdout)
        assert 200 <= answer["status"] < 300, answer["body"]
        return answer["body"], set(answer["loaded"])

    return ask


@pytest.fixture(scope="module")
def first_answers(ask):
    """Ask each function, from an upload to the records of one of its GPUs."""
    csv = wide_history(3, 20, host="node-cold").decode()
    answers = {
        "upload": ask("upload", "POST", "/api/v1/csv/upload", {"Content-Type": "text/csv"}, csv),
        "collect": ask("collect", "POST", "/", TICK, "{}"),
        "gpus": ask("query", "GET", "/api/v1/gpus"),
    }
    [uuid, *_] = [gpu["uuid"] for gpu in json.loads(answers["gpus"][0])["data"]]
    return answers | {"telemetry": ask("query", "GET", f"/api/v1/gpus/{uuid}/telemetry")}


def test_what_is_asked_is_really_answered(first_answers):
    bodies = {what: json.loads(body) for what, (body, _) in first_answers.items() if body}
    assert bodies["upload"]["data"]["accepted"] == 60
    assert (bodies["gpus"]["count"], bodies["telemetry"]["count"]) == (3, 20)


@pytest.mark.parametrize("what", ["upload", "collect", "gpus", "telemetry"])
def test_a_first_answer_takes_no_module_that_it_could_do_without(first_answers, what):
    loaded = first_answers[what][1]
    assert "shared.boot" in loaded
    assert loaded.isdisjoint(NEVER)


@pytest.mark.parametrize(
    ("what", "others"),
    [
        (
            "upload",
            ("functions.upload.imports", "functions.upload.uploads", "pyarrow.parquet", "shared.store.read"),
        ),
        ("collect", ("functions.collect.dead", "shared.queue.dead")),
        (
            "gpus",
            (
                "functions.query.further",
                "functions.query.hosts",
                "pyarrow.parquet",
                "shared.queue",
                "shared.api.live_messages",
            ),
        ),
        ("telemetry", ("functions.query.further", "functions.query.downsample", "functions.query.live.hub")),
    ],
)
def test_what_else_a_function_does_is_loaded_when_it_is_asked_for(first_answers, what, others):
    assert first_answers[what][1].isdisjoint(others)


@pytest.mark.parametrize(
    ("function", "path", "module"),
    [
        ("query", "/api/v1/fleet/summary", "functions.query.further"),
        ("upload", "/api/v1/uploads", "functions.upload.uploads"),
        ("collect", "/dead", "functions.collect.dead"),
    ],
)
def test_it_is_there_when_it_is(first_answers, ask, function, path, module):
    body, loaded = ask(function, "GET", path)
    assert json.loads(body)["success"]
    assert module in loaded
