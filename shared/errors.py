"""What can go wrong, by what a caller can do about it.

PipelineError
 ├── InvalidInput          the request or file is wrong: say what is wrong and what would be right
 │    ├── NotCsv            the body cannot be read as a telemetry CSV at all
 │    ├── NothingAccepted   a readable file of which no row could be kept
 │    └── UnsupportedMedia  a content type or encoding that is not understood
 ├── NotAcceptable         there is no format that the client takes
 ├── Unauthorized          who asks must say who he is: no token, or an unknown one
 ├── Forbidden             who asks may not: another role is needed, or it is not from this machine
 ├── NotFound              what was asked for does not exist (an outage is never this)
 ├── MethodNotAllowed      the path exists, the verb does not
 ├── Conflict              the request is fine, the state is not (an ambiguous id, a lost claim)
 ├── LimitExceeded         more than is allowed here: say the limit
 ├── Transient             try again: etcd away, a deadline passed
 │    └── TooManyRequests   one client asks more often than it may: say when it may again
 ├── NoSpace               etcd is over its quota: retrying alone does not help
 ├── Corrupt               stored bytes that cannot be decoded
 └── BadConfig             a setting is wrong: the process refuses to start
"""

from __future__ import annotations

from typing import Any, ClassVar


class PipelineError(Exception):
    """Something failed in the pipeline.

    The first line of a subclass's docstring is its default message. `code` is the stable word in an
    answer's `error.code`; `details` are fields a program can read.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or (type(self).__doc__ or type(self).__name__).splitlines()[0]
        self.details = details
        super().__init__(self.message)


class InvalidInput(PipelineError):
    """The request is not valid."""

    code = "invalid_input"


class NotCsv(InvalidInput):
    """The body is not a telemetry CSV."""

    code = "not_csv"


class NothingAccepted(InvalidInput):
    """No row of the file could be accepted."""

    code = "nothing_accepted"


class UnsupportedMedia(InvalidInput):
    """This content type is not understood here."""

    code = "unsupported_media_type"


class NotAcceptable(PipelineError):
    """There is no format of this that the client takes."""

    code = "not_acceptable"


class Unauthorized(PipelineError):
    """This needs a token, as in `Authorization: Bearer TOKEN`."""

    code = "unauthorized"


class Forbidden(PipelineError):
    """That is not allowed."""

    code = "forbidden"


class NotFound(PipelineError):
    """There is no such thing here."""

    code = "not_found"


class MethodNotAllowed(PipelineError):
    """This path does not take that method."""

    code = "method_not_allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"this path takes {' and '.join(allowed)}", allowed=list(allowed))
        self.allowed = allowed


class Conflict(PipelineError):
    """The state of things does not allow that."""

    code = "conflict"


class LimitExceeded(PipelineError):
    """That is more than is allowed here."""

    code = "limit_exceeded"


class Transient(PipelineError):
    """The store cannot be reached just now; try again."""

    code = "unavailable"

    #: What a client is told to wait before it tries again; one that knows better says another number.
    retry_after_s: int = 1


class TooManyRequests(Transient):
    """Too many requests; try again later."""

    code = "too_many_requests"


class NoSpace(PipelineError):
    """etcd is out of space."""

    code = "no_space"


class Corrupt(PipelineError):
    """Stored bytes cannot be decoded."""

    code = "corrupt"


class BadConfig(PipelineError):
    """A setting is not valid."""

    code = "bad_config"
