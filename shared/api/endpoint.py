"""What a declaration is made of: an endpoint, its parameters, its answers. All are built by keyword."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from shared.errors import PipelineError

#: Who may ask: anybody, or the bearer of a token with that role; admin may do all that the others may.
Role = Literal["anybody", "ingest", "read", "admin"]
JSON = "application/json"
#: Header of an answer: about how many records it is, where that is known before its body is sent.
ROWS = "X-Rows"


class Parameters(BaseModel):
    """The parameters of an endpoint, those in its path and those after the `?`; a value object.

    An unknown one is refused: a misspelt filter that is silently ignored answers a question nobody asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Shape(BaseModel):
    """The shape of a part of an answer: it declares, answers are not built through it."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Open(BaseModel):
    """A shape that has further members, as many as were stored: the fields of a record."""

    model_config = ConfigDict(extra="allow", defer_build=True)


class Answer(NamedTuple):
    """One way in which an endpoint answers."""

    status: int = 200
    description: str = "What was asked for."
    #: What stands under `data` in the envelope of success; None where the answer is not that envelope.
    data: Any = None
    #: What stands beside `data`, by name.
    beside: Mapping[str, Any] = MappingProxyType({})
    #: The whole body where it is JSON without the envelope.
    body: Any = None
    #: Content types in which it is answered; what is not JSON is text or bytes.
    types: tuple[str, ...] = (JSON,)
    #: Which records the header X-Rows counts; empty where the answer has no such header.
    rows: str = ""


class RequestBody(NamedTuple):
    """What an endpoint reads."""

    description: str
    #: Content types that are taken; `model` describes those that are JSON.
    types: tuple[str, ...]
    model: Any = None
    required: bool = True


class Endpoint(NamedTuple):
    """A method and a path such as /api/v1/gpus/{gpu}, and all that a caller needs to know of it."""

    service: Literal["upload", "collect", "query", "every"]
    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    description: str = ""
    #: Groups endpoints in the documentation.
    tag: str = ""
    role: Role = "read"
    #: Whether the rate limit counts its requests; what the pipeline sends itself paces itself.
    limited: bool = True
    parameters: type[Parameters] = Parameters
    body: RequestBody | None = None
    answers: tuple[Answer, ...] = (Answer(),)
    #: What it may be refused with beside what every endpoint may.
    errors: tuple[type[PipelineError], ...] = ()

    def path_names(self) -> list[str]:
        """List the parameters that stand in the path."""
        return [part.strip("{}") for part in self.path.split("/") if part.startswith("{")]
