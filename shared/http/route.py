"""Routing: declarations bound to handlers, a request's path matched, its parameters read.

A functions-framework function receives every method and nearly every path, so routing is done here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from flask import Request, Response
from pydantic import ValidationError

from shared import clock
from shared.api.endpoint import Endpoint, Parameters
from shared.errors import InvalidInput, MethodNotAllowed, NotFound

#: Characters of what was given that an error repeats.
_SHOWN = 200
#: Gets the request and the parameters of its endpoint.
Handler = Callable[[Request, Any], Response]

#: Of a path that leads nowhere, in the answer that says so.
_SHOWN = 200


class Route(NamedTuple):
    """An endpoint and what answers it."""

    endpoint: Endpoint
    handler: Handler

    def match(self, path: str, *, exactly: bool = True) -> dict[str, str] | None:
        """Match a path, exactly or without regard to slashes at its end; None where it is another."""
        own, parts = _split(self.endpoint.path, exactly), _split(path, exactly)
        if len(own) != len(parts):
            return None
        found = {}
        for mine, theirs in zip(own, parts, strict=True):
            if mine.startswith("{"):
                if not theirs:
                    return None
                found[mine.strip("{}")] = theirs
            elif mine != theirs:
                return None
        return found


@lru_cache(maxsize=512)
def _split(path: str, exactly: bool) -> tuple[str, ...]:
    """Split a path at its slashes; every request matches the paths of all routes."""
    return tuple((path.removeprefix("/") if exactly else path.strip("/")).split("/"))


class Routes:
    """The routes of a function; safe to share between threads."""

    def __init__(
        self, service: str, routes: Sequence[Route], build_further: Callable[[], Sequence[Route]] = tuple
    ) -> None:
        """Make them.

        Args:
            service: Whose they are.
            routes: What is asked for first, as a rule.
            build_further: Builds those that are searched where none of these is at a path, when that comes to
                pass: they bring modules along that a start from zero does not wait for.
        """
        self._service = service
        self._routes = tuple(routes)
        self._build_further = build_further
        self._all: tuple[Route, ...] | None = None
        self._lock = threading.Lock()

    def load(self) -> tuple[Route, ...]:
        """Build the further ones, unless they are there, and return all."""
        with self._lock:
            if self._all is None:
                self._all = (*self._routes, *self._build_further())
            return self._all

    def find(self, request: Request) -> tuple[Route, dict[str, str]]:
        """Find the route of a request, and what stood in its path.

        Raises:
            NotFound: No such path; lists those there are.
            MethodNotAllowed: The path is there under other methods.
        """
        method = "GET" if request.method == "HEAD" else request.method
        # A slash too many is forgiven where nothing is changed: `DELETE /things/` must not mean all things.
        exactly = method != "GET"
        matches = _match(self._routes, request.path, exactly=exactly) or _match(
            self.load(), request.path, exactly=exactly
        )
        # `/dead/replay` is not `/dead/{id}`, under whatever method: the path that says most is meant.
        fewest = min((len(found) for _, found in matches), default=0)
        meant = {r.endpoint.method: (r, found) for r, found in matches if len(found) == fewest}
        if method in meant:
            return meant[method]
        if meant:
            raise MethodNotAllowed(tuple(sorted(meant)))
        paths = sorted({f"{r.endpoint.method} {r.endpoint.path}" for r in self.load()})
        raise NotFound(f"{self._service} has no {request.path[:_SHOWN]}", paths=paths)


def _match(routes: Sequence[Route], path: str, *, exactly: bool) -> list[tuple[Route, dict[str, str]]]:
    return [(r, found) for r in routes if (found := r.match(path, exactly=exactly)) is not None]


def parse_parameters(request: Request, endpoint: Endpoint, in_path: Mapping[str, str]) -> Parameters:
    """Read the parameters of a request.

    Raises:
        InvalidInput: One is unknown, is given twice, or has a value that is not valid; says what would be.
    """
    known = endpoint.parameters.model_fields
    given: dict[str, str] = dict(in_path)
    for name, values in request.args.lists():
        if name not in known or name in in_path:
            takes = ", ".join(n for n in known if n not in in_path) or "none"
            raise InvalidInput(f"unknown parameter {name[:_SHOWN]!r}: {endpoint.path} takes {takes}")
        if len(values) > 1:
            raise InvalidInput(f"parameter {name!r} is given {len(values)} times: once is enough")
        given[name] = values[0]
    return validate_parameters(endpoint, given)


def validate_parameters(endpoint: Endpoint, given: Mapping[str, Any]) -> Parameters:
    """Make the parameters of an endpoint of what was given by name, mostly texts.

    Raises:
        InvalidInput: One is missing or not valid; says what would be.
    """
    if not given and not any(field.is_required() for field in endpoint.parameters.model_fields.values()):
        # What is not given is not validated either: that would only build the validator, at 2 ms a model.
        return endpoint.parameters.model_construct()
    try:
        return endpoint.parameters.model_validate(given, context={"now_ms": clock.now_ms()})
    except ValidationError as exc:
        raise _explain(exc, given) from exc


def _explain(exc: ValidationError, given: Mapping[str, Any]) -> InvalidInput:
    first = exc.errors(include_url=False)[0]
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if not first["loc"]:
        return InvalidInput(said)
    name = str(first["loc"][0])
    if first["type"] == "missing":
        return InvalidInput(f"parameter {name!r} is missing", parameter=name)
    value = given.get(name, "")
    shown = value[:_SHOWN] if isinstance(value, str) else value
    return InvalidInput(f"{name}={shown!r}: {said}", parameter=name)
