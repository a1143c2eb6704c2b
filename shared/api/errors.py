"""Errors as answers: under which status each class is answered, and what such an answer looks like."""

from __future__ import annotations

from typing import Any, Literal

from shared.api.endpoint import Shape
from shared.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    MethodNotAllowed,
    NoSpace,
    NotAcceptable,
    NotFound,
    NothingAccepted,
    PipelineError,
    TooManyRequests,
    Transient,
    Unauthorized,
    UnsupportedMedia,
)

#: The most special class that an error is an instance of decides.
STATUSES: tuple[tuple[type[PipelineError], int], ...] = (
    (NothingAccepted, 422),
    (UnsupportedMedia, 415),
    (InvalidInput, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (MethodNotAllowed, 405),
    (NotAcceptable, 406),
    (Conflict, 409),
    (LimitExceeded, 413),
    (TooManyRequests, 429),
    (Transient, 503),
    (NoSpace, 507),
    (PipelineError, 500),
)


class ErrorDetail(Shape):
    """What went wrong: a stable word, a sentence, and fields a program can read."""

    code: str
    message: str
    details: dict[str, Any]


class Error(Shape):
    """The envelope of every error."""

    success: Literal[False]
    error: ErrorDetail


def class_of(kind: type[PipelineError]) -> type[PipelineError]:
    """Find the class that stands for a class of errors in the table of statuses."""
    return next(known for known, _ in STATUSES if issubclass(kind, known))


def status_of(kind: type[PipelineError]) -> int:
    """Find the status that errors of a class are answered with."""
    return dict(STATUSES)[class_of(kind)]
