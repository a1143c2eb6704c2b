"""The OpenAPI document, made from the declarations.

One document is about three functions, each at an address of its own: every path says at which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from apispec import APISpec

from shared.api.all import ENDPOINTS, TAGS
from shared.api.endpoint import JSON, ROWS, Answer, Endpoint, RequestBody
from shared.api.errors import STATUSES, Error, class_of, status_of
from shared.api.examples import Example, read_examples
from shared.api.schemas import PydanticPlugin
from shared.errors import (
    Forbidden,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    PipelineError,
    TooManyRequests,
    Transient,
    Unauthorized,
)

#: Where each function listens unless told otherwise.
ADDRESSES = {
    "query": "http://127.0.0.1:8080",
    "upload": "http://127.0.0.1:8081",
    "collect": "http://127.0.0.1:8082",
}
_DESCRIPTION = """\
GPU telemetry from CSV: upload it, lose nothing, ask what the fleet did.

Three functions answer, each at an address of its own. Answers are `{"success": true, "data": ...}` or
`{"success": false, "error": {"code", "message", "details"}}`. A parameter that is unknown, given twice or
not valid is refused (400), never ignored. Every GET is answered to HEAD too; another method on a path is
405 and lists in `Allow` those that there are.

Where tokens are configured (AUTH_TOKENS), an endpoint takes a bearer token of its role (`x-role`) or of
the role `admin`; where none are, only this machine is served and no token is asked for. Every answer has an
`X-Request-Id`, under which the logs have what became of the request."""
_RETRY_AFTER = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
_ERROR_HEADERS: dict[type[PipelineError], dict[str, Any]] = {
    TooManyRequests: _RETRY_AFTER,
    Transient: _RETRY_AFTER,
    Unauthorized: {"WWW-Authenticate": {"description": "how to say who asks", "schema": {"type": "string"}}},
    MethodNotAllowed: {"Allow": {"description": "the methods there are", "schema": {"type": "string"}}},
}


def build_document() -> dict[str, Any]:
    """Build the document of all functions.

    Raises:
        ValueError: Two declarations contradict each other.
    """
    return Builder(ENDPOINTS, TAGS, read_examples()).build()


class Builder:
    """Builds one document; use it once."""

    def __init__(
        self, endpoints: Sequence[Endpoint], tags: Mapping[str, str], examples: Mapping[str, Example]
    ) -> None:
        self._endpoints = endpoints
        self._examples = examples
        self._schemas = PydanticPlugin()
        self._spec = APISpec(
            title="gpu-telemetry",
            version=version("gpu-telemetry"),
            openapi_version="3.1.0",
            plugins=[self._schemas],
            info={"description": _DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
            tags=[{"name": name, "description": text} for name, text in tags.items()],
        )

    def build(self) -> dict[str, Any]:
        """Build it."""
        self._spec.components.security_scheme(
            "bearer", {"type": "http", "scheme": "bearer", "description": "A token of AUTH_TOKENS."}
        )
        for kind, _ in STATUSES:
            self._spec.components.response(kind.__name__, self._error_response(kind))
        paths: dict[str, dict[str, Endpoint]] = {}
        for endpoint in self._endpoints:
            operations = paths.setdefault(endpoint.path, {})
            if endpoint.method in operations:
                raise ValueError(f"{endpoint.method} {endpoint.path} is declared twice")
            operations[endpoint.method] = endpoint
        for path, operations in paths.items():
            self._spec.path(path, operations={m.lower(): self._operation(e) for m, e in operations.items()})
        document: dict[str, Any] = self._spec.to_dict()
        for path, operations in paths.items():
            document["paths"][path]["servers"] = _servers(path, operations.values())
        return document

    def _operation(self, endpoint: Endpoint) -> dict[str, Any]:
        example = self._examples.get(f"{endpoint.method} {endpoint.path}")
        operation = {
            "operationId": _operation_id(endpoint),
            "summary": endpoint.summary,
            "tags": [endpoint.tag],
            "parameters": self._parameters(endpoint),
            "responses": self._responses(endpoint, example),
            "security": [] if endpoint.role == "anybody" else [{"bearer": [endpoint.role]}],
            "x-role": endpoint.role,
        }
        if endpoint.description:
            operation["description"] = endpoint.description
        if endpoint.body is not None:
            operation["requestBody"] = self._request_body(endpoint.body)
        if example is not None:
            commands = (example["curl"], *example.get("also", ()))
            operation["x-codeSamples"] = [{"lang": "Shell", "source": command} for command in commands]
        return operation

    def _parameters(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        properties, required = self._schemas.properties_of(endpoint.parameters)
        in_path = endpoint.path_names()
        return [
            _parameter(name, schema, in_path=name in in_path, required=name in required)
            for name, schema in properties.items()
        ]

    def _request_body(self, body: RequestBody) -> dict[str, Any]:
        content = {}
        for kind in body.types:
            if kind == "multipart/form-data":
                file = {"type": "string", "contentMediaType": "application/octet-stream"}
                form = {"type": "object", "required": ["file"], "properties": {"file": file}}
                content[kind] = {"schema": form}
            elif _is_json(kind):
                content[kind] = {"schema": self._schemas.schema_of(body.model, "validation")}
            else:
                content[kind] = _media_type(kind)
        return {"description": body.description, "required": body.required, "content": content}

    def _responses(self, endpoint: Endpoint, example: Example | None) -> dict[str, Any]:
        responses: dict[str, Any] = {}
        for answer in endpoint.answers:
            status = str(answer.status)
            if status in responses:
                raise ValueError(f"{endpoint.method} {endpoint.path} declares {status} twice")
            responses[status] = self._response(answer)
        if example is not None and "answer" in example:
            content = responses[str(endpoint.answers[0].status)]["content"]
            content[next(iter(content))]["example"] = example["answer"]
        by_status: dict[int, list[type[PipelineError]]] = {}
        for kind in dict.fromkeys(map(class_of, _errors(endpoint))):
            by_status.setdefault(status_of(kind), []).append(kind)
        for code, kinds in sorted(by_status.items()):
            responses[str(code)] = kinds[0].__name__ if len(kinds) == 1 else self._error_response(*kinds)
        return responses

    def _response(self, answer: Answer) -> dict[str, Any]:
        response: dict[str, Any] = {"description": answer.description}
        if answer.rows:
            response["headers"] = {ROWS: {"description": answer.rows, "schema": {"type": "integer"}}}
        if answer.types:
            response["content"] = {
                kind: {"schema": self._body(answer)} if _is_json(kind) else _media_type(kind)
                for kind in answer.types
            }
        return response

    def _body(self, answer: Answer) -> dict[str, Any]:
        if answer.body is not None:
            return self._schemas.schema_of(answer.body)
        members = {"data": answer.data, **answer.beside}
        return {
            "type": "object",
            "required": ["success", *members],
            "properties": {
                "success": {"type": "boolean", "const": True},
                **{name: self._schemas.schema_of(kind) for name, kind in members.items()},
            },
            "additionalProperties": False,
        }

    def _error_response(self, *kinds: type[PipelineError]) -> dict[str, Any]:
        sentences = [(kind.__doc__ or kind.__name__).splitlines()[0] for kind in kinds]
        error = {"code": kinds[0].code, "message": sentences[0], "details": {}}
        media = {"schema": self._schemas.schema_of(Error), "example": {"success": False, "error": error}}
        response: dict[str, Any] = {"description": " Or: ".join(sentences), "content": {JSON: media}}
        headers = {name: header for kind in kinds for name, header in _ERROR_HEADERS.get(kind, {}).items()}
        if headers:
            response["headers"] = headers
        return response


def _errors(endpoint: Endpoint) -> Iterator[type[PipelineError]]:
    """List what an endpoint may be refused with: what it declares, and what its other properties entail."""
    yield from (InvalidInput, PipelineError)
    if endpoint.role != "anybody":
        yield from (Unauthorized, Forbidden)
    if endpoint.limited:
        yield TooManyRequests
    if endpoint.path_names():
        # What stands in the path may be anything: then it is the path of no endpoint.
        yield NotFound
    yield from endpoint.errors


def _is_json(content_type: str) -> bool:
    return content_type == JSON or content_type.endswith("+json")


def _media_type(content_type: str) -> dict[str, Any]:
    """Describe a content that is text, or bytes, which OpenAPI 3.1 describes by no schema."""
    text = content_type.startswith("text/") or content_type.endswith("ndjson")
    return {"schema": {"type": "string"}} if text else {}


def _parameter(name: str, schema: dict[str, Any], *, in_path: bool, required: bool) -> dict[str, Any]:
    schema = dict(schema)
    choices = schema.pop("anyOf", None)
    if choices is not None:
        # What is null is left out of the query; there is no way to write it.
        schema = {**schema, **next(choice for choice in choices if choice.get("type") != "null")}
    if schema.get("default", ...) is None:
        del schema["default"]
    if in_path and schema.get("type") == "string":
        schema.setdefault("minLength", 1)
    parameter = {
        "name": name,
        "in": "path" if in_path else "query",
        "required": required,
        "description": schema.pop("description", ""),
        "schema": schema,
    }
    if schema.get("type") == "array":
        parameter |= {"style": "form", "explode": False}
    return parameter


def _operation_id(endpoint: Endpoint) -> str:
    """Name an operation for its method and path: GET /api/v1/gpus/{gpu} is getGpusByGpu."""
    path = endpoint.path.removeprefix("/api/v1").replace("{", "by-")
    words = re.findall(r"[A-Za-z0-9]+", path) or ["root"]
    return endpoint.method.lower() + "".join(word[0].upper() + word[1:] for word in words)


def _servers(path: str, endpoints: Iterable[Endpoint]) -> list[dict[str, Any]]:
    services = {endpoint.service for endpoint in endpoints}
    if len(services) > 1:
        raise ValueError(
            f"{path} is declared for {' and '.join(sorted(services))}: no client could tell which"
        )
    names = [*ADDRESSES] if services == {"every"} else sorted(services)
    return [
        {
            "url": f"{{{name}}}",
            "description": f"the {name} function",
            "variables": {name: {"default": ADDRESSES[name], "description": f"where {name} is reached"}},
        }
        for name in names
    ]
