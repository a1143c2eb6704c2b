"""The examples of docs/api.md work as pasted, and answer as they are shown.

RECORD_EXAMPLES=1 writes what was answered, shortened, into shared/api/examples.json: add `curl` there, run this, and
then `make generate-openapi`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pyarrow as pa
import pytest

from shared.api.examples import read_examples
from shared.api.openapi import build_document
from shared.keys import Keys
from shared.queue import Queue
from tests.integration.test_import import stream

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "shared" / "api" / "examples.json"
SAMPLE = (ROOT / "samples" / "two_hosts.csv").read_bytes()
RECORDING = bool(os.environ.get("RECORD_EXAMPLES"))
PORTS = {"query": 8080, "upload": 8081, "collect": 8082}
#: The upload that examples ask for; here it is another.
UPLOAD = "01a20b3a6ddb-56699c59157b"
LETTER = f"{UPLOAD}-000000"
DOCUMENT = build_document()


@pytest.fixture(scope="module")
def stored(pipeline):
    """Some records, so that there is something to ask."""
    upload(pipeline)
    assert pipeline.collect.call("POST", "/collect")[0] == 200


@pytest.fixture(scope="module")
def folder(pipeline, stored, tmp_path_factory):
    """Where examples are pasted, with what they send."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "samples").symlink_to(ROOT / "samples")
    exported = pipeline.query.call("GET", "/api/v1/export")[1]
    (folder / "rows.arrow").write_bytes(stream(pa.ipc.open_stream(exported).read_all()))
    return folder


def upload(pipeline):
    status, body = pipeline.upload.upload(SAMPLE, query="?filename=two_hosts.csv")
    assert status == 200
    return body["data"]["upload_id"]


def bury_all(pipeline, etcd, lease):
    """Make dead letters of all that waits."""
    queue = Queue(etcd, Keys(pipeline.prefix))
    for message in queue.list_ready():
        [claim] = queue.claim([message], lease)
        queue.bury(claim, "claimed 5 times: whoever claimed it died", message.received_ms + 150_000)


def paste(pipeline, folder, command, upload_id):
    """Run a command against these functions, and show its answer as if it came from those of the example."""
    there = {f"127.0.0.1:{port}": getattr(pipeline, name).url[7:] for name, port in PORTS.items()}
    there |= {"127.0.0.1:2379": pipeline.etcd, "/telemetry": pipeline.prefix, UPLOAD: upload_id}
    for shown, real in there.items():
        if shown != "/telemetry":
            command = command.replace(shown, real)
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    answer = done.stdout
    for shown, real in there.items():
        answer = answer.replace(real, shown)
    return answer


def shorten(value):
    if isinstance(value, list):
        return [shorten(item) for item in value[: 2 if len(str(value[:2])) < 400 else 1]]
    return {name: shorten(member) for name, member in value.items()} if isinstance(value, dict) else value


def record(name, answer):
    everything = json.loads(EXAMPLES.read_text())
    everything[name]["answer"] = answer
    EXAMPLES.write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", [*read_examples()])
def test_an_example_works_as_pasted(pipeline, folder, etcd, lease, name):
    example = read_examples()[name]
    method, _, path = name.partition(" ")
    of_one = upload(pipeline) if UPLOAD in example["curl"] or "/dead" in path else UPLOAD
    if "/dead" in path:
        bury_all(pipeline, etcd, lease)
    text = paste(pipeline, folder, example["curl"], of_one)
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    declared = next(iter(responses.values())).get("content", {})
    if "application/json" not in declared or "-o " in example["curl"]:
        assert "answer" not in example or text.splitlines()[0] == example["answer"].splitlines()[0]
        if RECORDING and text:
            record(name, "\n".join(text.splitlines()[:3]))
        return
    answer = json.loads(text)
    assert answer.get("success", True), answer
    assert "errors" not in answer, answer
    schema = {**declared["application/json"]["schema"], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)
    if RECORDING:
        record(name, shorten(answer))
        return
    assert same_members(example.get("answer", answer), answer), (
        "RECORD_EXAMPLES=1 writes what is answered now"
    )


@pytest.mark.parametrize("command", [c for e in read_examples().values() for c in e.get("also", ())])
def test_a_further_command_works_as_pasted(pipeline, folder, command):
    assert command.startswith("# ")
    assert '"success":false' not in paste(pipeline, folder, command, UPLOAD)


def same_members(shown, answered):
    """Whether an example has the very members of an answer; which values they have is another matter."""
    if isinstance(shown, dict) and isinstance(answered, dict):
        return shown.keys() == answered.keys() and all(same_members(shown[n], answered[n]) for n in shown)
    if isinstance(shown, list) and isinstance(answered, list):
        return not shown or any(same_members(shown[0], item) for item in answered)
    return True
