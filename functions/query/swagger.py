"""The OpenAPI document, and Swagger UI to read it with; nothing is fetched from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import orjson
from flask import Request, Response

from shared.api import swagger as api
from shared.api.endpoint import JSON, Parameters
from shared.errors import NotFound
from shared.http import Route

#: Swagger UI sets styles inline and shows its icons as data; it may ask whichever server its reader names.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src *; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: What stands beside this module; the rest comes with flask-swagger-ui, of which only the files are used.
_OWN = ("index.html", "initializer.js")


class Swagger:
    """The routes of the document and its page."""

    def routes(self) -> list[Route]:
        """List what is served."""
        return [
            Route(api.SPEC, self._spec),
            Route(api.PAGE, self._page),
            Route(api.PAGE_FILE, self._file),
        ]

    def _spec(self, request: Request, _wanted: Parameters) -> Response:
        return _answer(request, _document(), JSON)

    def _page(self, request: Request, _wanted: Parameters) -> Response:
        if not request.path.endswith("/"):
            # The page names its files relative to its own address.
            return Response(status=308, headers={"Location": "swagger/"})
        response = _answer(request, _read("index.html"), "text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    def _file(self, request: Request, wanted: api.PageFile) -> Response:
        kind = api.FILES.get(wanted.file)
        if kind is None:
            raise NotFound(f"the page has no file {wanted.file!r}", files=[*api.FILES])
        charset = "; charset=utf-8" if kind.startswith("text/") else ""
        return _answer(request, _read(wanted.file), kind + charset)


def _answer(request: Request, body: bytes, content_type: str) -> Response:
    response = Response(body, 200, content_type=content_type)
    response.add_etag()
    # Kept, but asked for again: what it is may change with the next release.
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


@cache
def _document() -> bytes:
    # Imported where it is used: no other answer needs the declarations of all functions, or apispec.
    from shared.api.openapi import build_document  # noqa: PLC0415

    return orjson.dumps(build_document()) + b"\n"


@cache
def _read(name: str) -> bytes:
    if name in _OWN:
        return files("functions.query").joinpath("swagger_page", name).read_bytes()
    return files("flask_swagger_ui").joinpath("dist", name).read_bytes()
