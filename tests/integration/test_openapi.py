"""What is served is what is declared; and the document and its page, as query serves them."""

from __future__ import annotations

import pytest

from shared.api import swagger
from shared.api.all import ENDPOINTS
from shared.api.openapi import build_document


@pytest.mark.parametrize("name", ["upload", "collect", "query"])
def test_a_function_serves_what_is_declared_and_nothing_else(pipeline, name):
    status, body = getattr(pipeline, name).get("/nowhere")
    assert status == 404
    declared = {f"{e.method} {e.path}" for e in ENDPOINTS if e.service in (name, "every")}
    assert set(body["error"]["details"]["paths"]) == declared


def test_the_document_is_served_and_not_sent_again(pipeline):
    status, body, headers = pipeline.query.call("GET", "/swagger/spec.json")
    assert (status, body) == (200, build_document())
    known = {"If-None-Match": headers["ETag"]}
    status, body, headers = pipeline.query.call("GET", "/swagger/spec.json", headers=known)
    assert (status, body, headers["ETag"]) == (304, b"", known["If-None-Match"])


def test_the_page_and_its_files_are_served(pipeline):
    status, page, headers = pipeline.query.call("GET", "/swagger/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    named = {name for name in swagger.FILES if name.encode() in page}
    assert named == set(swagger.FILES)
    for name, kind in swagger.FILES.items():
        status, body, headers = pipeline.query.call("GET", f"/swagger/{name}")
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, kind)
        assert len(body) > 500


@pytest.mark.parametrize("name", ["index.html", "..%2fswagger.py", "swagger-ui.js.map", "%2e%2e"])
def test_no_other_file_is(pipeline, name):
    status, body, _ = pipeline.query.call("GET", f"/swagger/{name}")
    assert (status, body["error"]["code"]) == (404, "not_found")


def test_without_its_slash_the_page_is_elsewhere(pipeline):
    status, _, headers = pipeline.query.call("GET", "/swagger", redirect=False)
    assert (status, headers["Location"]) == (308, "swagger/")


@pytest.mark.parametrize("path", ["/robots.txt", "/a%0Ab", "/dead%0a/x"])
def test_what_the_framework_routes_nowhere_is_answered_like_the_rest(pipeline, path):
    status, body, headers = pipeline.query.call("GET", path)
    assert (status, body["error"]["code"]) == (404, "not_found")
    assert headers["Server"]


def test_the_path_that_says_most_is_meant(pipeline):
    status, body, headers = pipeline.collect.call("GET", "/dead/replay")
    assert (status, headers["Allow"]) == (405, "POST")
    assert pipeline.query.call("POST", "/swagger/")[2]["Allow"] == "GET"
    # A slash too many is forgiven where nothing is changed.
    assert pipeline.query.get("/api/v1/gpus/")[0] == 200
    assert pipeline.collect.call("DELETE", "/dead/?all=true")[0] == 404
    assert body["success"] is False
