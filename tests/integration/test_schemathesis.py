"""Every operation of the document, asked with valid and with broken data, answers as it is declared.

What is sent is the same in every run. SCHEMATHESIS_EXAMPLES=200 asks longer, SCHEMATHESIS_SEED=7 otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import schemathesis
from schemathesis.checks import positive_data_acceptance
from schemathesis.config import SchemathesisConfig

from shared.api.openapi import build_document

SAMPLE = Path(__file__).resolve().parent.parent.parent / "samples" / "two_hosts.csv"
CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": int(os.environ.get("SCHEMATHESIS_SEED", "1")),
        "generation": {
            "max-examples": int(os.environ.get("SCHEMATHESIS_EXAMPLES", "30")),
            "deterministic": "SCHEMATHESIS_SEED" not in os.environ,
            "database": "none",
            # Without tokens nobody is asked for one.
            "with-security-parameters": False,
        },
        "phases": {"stateful": {"enabled": False}},
        "checks": {"ignored_auth": {"enabled": False}, "missing_required_header": {"enabled": False}},
    }
)
#: Whether a value of these is right, no schema can say: a window's end after its start, a 31st of June, the
#: name of a field that there is, where a page ended, a JSON object, the first of two uuids, an aggregate without a step.
BEYOND_A_SCHEMA = {
    "start_time", "end_time", "first_uuid", "field", "fields", "cursor", "variables", "agg", "align",
}  # fmt: skip
DOCUMENT = build_document()
schema = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)


@schemathesis.serializer("application/vnd.apache.arrow.stream", "application/x-ndjson")
def as_bytes(_context, value):
    """What is no JSON is sent as whatever was made up."""
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def addresses(pipeline):
    """Where the functions are, with something in queue and store."""
    status, _ = pipeline.upload.upload(SAMPLE.read_bytes())
    assert status == 200
    assert pipeline.collect.call("POST", "/collect")[0] == 200
    return {name: getattr(pipeline, name).url for name in ("upload", "collect", "query")}


def functions_of(path):
    return [next(iter(server["variables"])) for server in DOCUMENT["paths"][path]["servers"]]


@schema.parametrize()
def test_an_operation_answers_as_declared(case, addresses):
    # What becomes a WebSocket takes no plain request, however valid.
    open_question = (
        case.operation.body
        or BEYOND_A_SCHEMA & set(case.query or ())
        or "101" in case.operation.definition.raw["responses"]
    )
    for name in functions_of(case.path):
        response = case.call_and_validate(
            base_url=addresses[name],
            excluded_checks=[positive_data_acceptance] if open_question else None,
        )
        assert b"Traceback" not in response.content
