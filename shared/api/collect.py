"""The endpoints of collect: events, dead letters, retention."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from shared.api.endpoint import JSON, Answer, Endpoint, Open, Parameters, RequestBody, Shape
from shared.api.types import Count
from shared.errors import Conflict, NoSpace, NotFound, Transient
from shared.keys import is_message_id

#: Dead letters of one listing, unless limit= says otherwise, and at most.
LISTED, MOST_LISTED = 100, 1000
#: Replayed or dropped by one request, unless limit= says otherwise: a few seconds' work.
AT_ONCE = 10_000
EVENTS = (JSON, "application/cloudevents+json")


def _message_id(text: str) -> str:
    if not is_message_id(text):
        raise ValueError("not a message's id: GET /dead lists those there are")
    return text


MessageId = Annotated[
    str,
    AfterValidator(_message_id),
    # It begins with a time, which until the year 2179 begins like this.
    Field(json_schema_extra={"pattern": "^0[0-5][0-9a-f]{10}-[0-9a-f]{12}-[0-9]{6,12}$"}),
]


class OneLetter(Parameters):
    """Which dead letter."""

    id: Annotated[MessageId, Field(description="the message's id")]


class LettersPage(Parameters):
    """A page of the dead letters, oldest first."""

    limit: Annotated[Count, Field(description=f"how many, at most {MOST_LISTED}")] = LISTED
    after: Annotated[MessageId | None, Field(description="go on after this one")] = None


class AllLetters(Parameters):
    """What is about all dead letters says so."""

    all: Annotated[Literal["true"], Field(description="must be there: this is about all of them")]
    limit: Annotated[Count, Field(description="at most so many")] = AT_ONCE


class Letter(Shape):
    """A message that was set aside."""

    id: str
    upload_id: str
    received_at: str
    buried_at: str | None
    rows: int
    bytes: int
    attempts: int
    reason: str


class LetterRead(Open):
    """A dead letter with what can be read of it: records, or the error."""

    id: str
    reason: str


class Changed(Open):
    """How many dead letters were replayed or dropped, and how many are left."""


class Collected(Shape):
    """What was done with messages."""

    messages: int
    rows: int
    segments: int
    bytes: int
    released: int
    buried: int
    lost: int
    transactions: int
    transactions_lost: int
    depth: int


class Days(Open):
    """Ingestion days and what retention says of them."""

    retention: str
    cutoff_day: str | None
    days: list[dict[str, Any]]


_EVENT_BODY = RequestBody(
    description="A CloudEvent, binary or structured; what is none, or empty, is a tick.",
    types=EVENTS,
    model=Any,
    required=False,
)
_MOVED = "how many rows this request moved into the store"
EVENT = Endpoint(
    service="collect",
    method="POST",
    path="/",
    summary="Take an event or a tick",
    description="An event names messages to move into the store; a tick moves all, and keeps house.",
    tag="collect",
    role="ingest",
    limited=False,
    body=_EVENT_BODY,
    answers=(
        Answer(
            status=204, types=(), description="Done; empty, for a body would be a reply event.", rows=_MOVED
        ),
    ),
    errors=(Transient, NoSpace),
)
COLLECT = Endpoint(
    service="collect",
    method="POST",
    path="/collect",
    summary="Move what waits into the store, and say what was done",
    tag="collect",
    role="ingest",
    body=_EVENT_BODY,
    answers=(Answer(data=Collected, description="What was done.", rows=_MOVED),),
    errors=(Transient, NoSpace),
)
SHOW_RETENTION = Endpoint(
    service="collect",
    method="GET",
    path="/retention",
    summary="What retention keeps, day by day, and what is past it",
    tag="operation",
    role="admin",
    answers=(Answer(data=Days, description="The days."),),
    errors=(Transient,),
)
SWEEP = Endpoint(
    service="collect",
    method="POST",
    path="/retention",
    summary="Delete what is past retention now",
    tag="operation",
    role="admin",
    answers=(Answer(data=Days, description="What went."),),
    errors=(Transient,),
)
LIST_DEAD = Endpoint(
    service="collect",
    method="GET",
    path="/dead",
    summary="The dead letters: messages that could not be stored",
    tag="dead letters",
    role="admin",
    parameters=LettersPage,
    answers=(Answer(data=list[Letter], beside={"count": int}, description="A page, oldest first."),),
    errors=(Transient,),
)
DROP_ALL_DEAD = Endpoint(
    service="collect",
    method="DELETE",
    path="/dead",
    summary="Drop all dead letters for ever",
    tag="dead letters",
    role="admin",
    parameters=AllLetters,
    answers=(Answer(data=Changed, description="How many went."),),
    errors=(Transient,),
)
REPLAY_ALL_DEAD = Endpoint(
    service="collect",
    method="POST",
    path="/dead/replay",
    summary="Put all dead letters back into the queue",
    tag="dead letters",
    role="admin",
    parameters=AllLetters,
    answers=(Answer(data=Changed, description="How many were."),),
    errors=(Transient, NoSpace),
)
SHOW_DEAD = Endpoint(
    service="collect",
    method="GET",
    path="/dead/{id}",
    summary="One dead letter, with what can be read of it",
    tag="dead letters",
    role="admin",
    parameters=OneLetter,
    answers=(Answer(data=LetterRead, description="The dead letter."),),
    errors=(NotFound, Transient),
)
DROP_DEAD = Endpoint(
    service="collect",
    method="DELETE",
    path="/dead/{id}",
    summary="Drop a dead letter for ever",
    tag="dead letters",
    role="admin",
    parameters=OneLetter,
    answers=(Answer(data=Changed, description="It is gone."),),
    errors=(NotFound, Transient),
)
REPLAY_DEAD = Endpoint(
    service="collect",
    method="POST",
    path="/dead/{id}/replay",
    summary="Put a dead letter back into the queue",
    tag="dead letters",
    role="admin",
    parameters=OneLetter,
    answers=(Answer(data=Changed, description="It waits again, with no attempts counted."),),
    errors=(NotFound, Conflict, Transient, NoSpace),
)
ENDPOINTS = (
    EVENT, COLLECT, SHOW_RETENTION, SWEEP, LIST_DEAD, DROP_ALL_DEAD, REPLAY_ALL_DEAD, SHOW_DEAD, DROP_DEAD,
    REPLAY_DEAD,
)  # fmt: skip
