"""The document is a valid one, says what the code says, and what stands in docs/ is that document."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.api import all as declared
from shared.api import gpus
from shared.api.__main__ import build_files
from shared.api.endpoint import Answer, Endpoint, Shape
from shared.api.examples import read_examples
from shared.api.openapi import Builder, build_document

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def document():
    return build_document()


def operations(document):
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "servers"
    }


def test_it_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    assert [str(e) for e in OpenAPIV31SpecValidator(document).iter_errors()] == []


@pytest.mark.parametrize("name", ["openapi.json", "api.md"])
def test_what_stands_in_docs_is_what_the_code_says(name):
    assert (DOCS / name).read_text() == build_files()[name], "run `make generate-openapi`"


def test_every_endpoint_is_there_once_and_is_told_apart(document):
    found = operations(document)
    assert set(found) == {f"{e.method} {e.path}" for e in declared.ENDPOINTS}
    ids = [operation["operationId"] for operation in found.values()]
    assert len(set(ids)) == len(ids) == len(declared.ENDPOINTS)


def test_every_endpoint_has_words_and_a_tag_that_is_explained(document):
    tags = {tag["name"] for tag in document["tags"]}
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, f"{name}: say in shared/api/all.py what its tag is about"
        for parameter in operation["parameters"]:
            assert parameter["description"], f"{name}: {parameter['name']}"
    used = {tag for operation in operations(document).values() for tag in operation["tags"]}
    assert used == tags


def test_where_the_functions_are(document):
    def addresses(path):
        return [v["default"] for s in document["paths"][path]["servers"] for v in s["variables"].values()]

    assert addresses("/api/v1/gpus") == ["http://127.0.0.1:8080"]
    assert addresses("/api/v1/csv/upload") == ["http://127.0.0.1:8081"]
    assert addresses("/collect") == ["http://127.0.0.1:8082"]
    assert [a[-4:] for a in addresses("/health")] == ["8080", "8081", "8082"]


def test_what_a_parameter_is(document):
    operation = operations(document)["GET /api/v1/gpus/{gpu}/telemetry"]
    parameters = {p["name"]: p for p in operation["parameters"]}
    assert (parameters["gpu"]["in"], parameters["gpu"]["required"]) == ("path", True)
    assert (parameters["limit"]["in"], parameters["limit"]["required"]) == ("query", False)
    assert parameters["limit"]["schema"]["type"] == "integer"
    assert "default" not in parameters["limit"]["schema"]


def test_who_may_ask(document):
    found = operations(document)
    assert found["GET /health"]["security"] == []
    assert found["GET /api/v1/gpus"]["security"] == [{"bearer": ["read"]}]
    assert found["DELETE /api/v1/uploads/{upload}"]["x-role"] == "admin"


def test_errors_are_those_declared_and_those_of_every_endpoint(document):
    found = operations(document)
    refused = {s for s in found["POST /api/v1/csv/upload"]["responses"] if int(s) >= 400}
    assert {"400", "413", "415", "422", "500", "503", "507"} <= refused
    assert "503" not in found["GET /health"]["responses"]
    assert "404" in found["GET /swagger/{file}"]["responses"]
    retry = document["components"]["responses"]["Transient"]["headers"]
    assert set(retry) == {"Retry-After"}


def test_declarations_that_contradict_each_other_are_refused():
    def build(*endpoints):
        return Builder(endpoints, {"gpus": ""}, {}).build()

    with pytest.raises(ValueError, match="declared twice"):
        build(gpus.LIST_GPUS, gpus.LIST_GPUS)
    with pytest.raises(ValueError, match="no client could tell"):
        build(gpus.LIST_GPUS, gpus.LIST_GPUS._replace(method="POST", service="upload"))

    class Gpu(Shape):
        """Another of that name."""

        other: int

    other = Endpoint(
        service="query", method="GET", path="/other", summary="", answers=(Answer(data=list[Gpu]),)
    )
    with pytest.raises(ValueError, match="two models of the API are called Gpu"):
        build(gpus.LIST_GPUS, other)
    with pytest.raises(ValueError, match="declares 200 twice"):
        build(gpus.LIST_GPUS._replace(answers=(Answer(data=int), Answer(data=str))))


def test_every_endpoint_has_an_example(document):
    # What becomes a WebSocket, curl cannot show.
    wanted = {name for name, operation in operations(document).items() if "101" not in operation["responses"]}
    assert set(read_examples()) == wanted, (
        "RECORD_EXAMPLES=1 in tests/integration/test_api_examples.py adds them"
    )


@pytest.mark.parametrize(("name", "example"), [*read_examples().items()])
def test_an_example_is_an_answer_as_declared(document, name, example):
    operation = operations(document)[name]
    path = name.partition(" ")[2].partition("{")[0]
    assert path in example["curl"]
    if "answer" not in example:
        return
    response = next(iter(operation["responses"].values()))
    media = next(m for m in response["content"].values() if "example" in m)
    schema = {**media.get("schema", {}), "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(example["answer"])
