"""GraphQL over HTTP: a query in, an answer out. The library is imported with the first query."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import orjson
from flask import Request, Response
from pydantic import ValidationError

from shared.api import graphql as api
from shared.api.errors import status_of
from shared.errors import InvalidInput, LimitExceeded, PipelineError, UnsupportedMedia
from shared.http import Route, json_response, read_body

#: Bytes and tokens of a query.
MOST_BYTES = 64 * 1024
MOST_TOKENS = 2000


class GraphDoor:
    """The routes of GraphQL over the other routes of query."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._questions = routes

    def routes(self) -> list[Route]:
        """List what is served."""
        return [Route(api.POST_GRAPHQL, self._post), Route(api.GET_GRAPHQL, self._get)]

    @cached_property
    def _schema(self) -> Any:
        from functions.query.graph.schema import build_schema  # noqa: PLC0415  (90 ms)

        return build_schema(self._questions)

    def _post(self, request: Request, _wanted: object) -> Response:
        if request.mimetype != "application/json":
            raise UnsupportedMedia(f"Content-Type {request.mimetype!r}: send application/json")
        body = read_body(request, MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise LimitExceeded(f"a query has at most {MOST_BYTES} bytes")
        try:
            asked = api.GraphQLRequest.model_validate(orjson.loads(body))
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise InvalidInput(f"{where}: {first['msg']}; expected {{'query': '...'}}") from exc
        except ValueError as exc:
            raise InvalidInput(f"the body is not JSON: {exc}") from exc
        return self._answer(request, asked.query, asked.variables, asked.operationName)

    def _get(self, request: Request, wanted: api.GraphQLQuery) -> Response:
        if len(wanted.query) > MOST_BYTES:
            raise LimitExceeded(f"a query has at most {MOST_BYTES} bytes")
        try:
            variables = orjson.loads(wanted.variables) if wanted.variables else None
        except ValueError as exc:
            raise InvalidInput(f"variables is not JSON: {exc}", parameter="variables") from exc
        if not isinstance(variables, dict | None):
            raise InvalidInput("variables: expected a JSON object", parameter="variables")
        return self._answer(request, wanted.query, variables, wanted.operationName)

    def _answer(
        self, request: Request, query: str, variables: dict[str, Any] | None, operation: str | None
    ) -> Response:
        from graphql import GraphQLError, execute_sync, parse, validate  # noqa: PLC0415

        from functions.query.graph.limits import check  # noqa: PLC0415

        variables = variables or {}
        own = api.GRAPHQL_RESPONSE if api.GRAPHQL_RESPONSE in request.headers.get("Accept", "") else None
        try:
            document = parse(query, max_tokens=MOST_TOKENS)
        except GraphQLError as exc:
            return _wrong([exc], own)
        check(document, variables)
        mistakes = validate(self._schema, document, max_errors=20)
        if mistakes:
            return _wrong(mistakes, own)
        result = execute_sync(self._schema, document, variable_values=variables, operation_name=operation)
        return _respond(result.data, result.errors or [], own)


def _wrong(errors: Sequence[Any], own: str | None) -> Response:
    """Answer that the query is not valid: nothing was asked."""
    body = {"errors": [_describe(error) for error in errors]}
    return _send(body, 400 if own else 200, own)


def _respond(data: Any, errors: Sequence[Any], own: str | None) -> Response:
    from graphql import GraphQLError  # noqa: PLC0415

    for error in errors:
        cause = error.original_error
        if isinstance(cause, GraphQLError):  # a variable that is none: the query is wrong, not we
            continue
        # An outage is never an answer with holes; and what is wrong with us is not told to others.
        ours = not isinstance(cause, PipelineError) or status_of(type(cause)) >= 500  # noqa: PLR2004
        if cause is not None and ours:
            raise cause
    body: dict[str, Any] = {"data": data}
    if errors:
        body["errors"] = [_describe(error) for error in errors]
    return _send(body, 200, own)


def _describe(error: Any) -> dict[str, Any]:
    out = dict(error.formatted)
    if isinstance(error.original_error, PipelineError):
        out["extensions"] = {"code": error.original_error.code, **error.original_error.details}
    return out


def _send(body: dict[str, Any], status: int, own: str | None) -> Response:
    response = json_response(body, status)
    if own:
        response.content_type = own
    return response
