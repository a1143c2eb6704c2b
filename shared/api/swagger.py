"""The endpoints of query: the OpenAPI document, and the page that shows it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint, Parameters
from shared.errors import NotFound

#: The files of the page beside it, and what each is.
FILES = {
    "initializer.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


class PageFile(Parameters):
    """Which file of the page."""

    file: Annotated[str, Field(description="its name", json_schema_extra={"enum": [*FILES]})]


_NOT_CHANGED = Answer(status=304, types=(), description="It is still what If-None-Match names.")
SPEC = Endpoint(
    service="query",
    method="GET",
    path="/swagger/spec.json",
    summary="This document",
    tag="documentation",
    role="anybody",
    answers=(Answer(body=dict[str, Any], description="OpenAPI 3.1."), _NOT_CHANGED),
)
PAGE = Endpoint(
    service="query",
    method="GET",
    path="/swagger/",
    summary="Swagger UI: this document as a page that asks, too",
    tag="documentation",
    role="anybody",
    answers=(
        Answer(types=("text/html",), description="The page."),
        _NOT_CHANGED,
        Answer(status=308, types=(), description="Without the slash at the end: to the one with it."),
    ),
)
PAGE_FILE = Endpoint(
    service="query",
    method="GET",
    path="/swagger/{file}",
    summary="A file of that page",
    tag="documentation",
    role="anybody",
    parameters=PageFile,
    answers=(
        Answer(types=tuple(dict.fromkeys(FILES.values())), description="The file."),
        _NOT_CHANGED,
    ),
    errors=(NotFound,),
)
ENDPOINTS = (SPEC, PAGE, PAGE_FILE)
