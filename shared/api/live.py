"""The WebSocket of query: records as they are stored.

All messages are JSON texts with a `type`. The client sends

  {"type": "subscribe", "gpus": [...], "hosts": [...], "models": [...], "fields": [...], "cursor": "..."}
                          all lists are optional, and an empty one means all: uuids, hosts and models exactly
                          or with `*` for anything; a record comes where it fits each list and has one of the
                          fields. A further one takes the place of the last, and nothing is left out between
  {"type": "unsubscribe"}
  {"type": "ping"}        answered with {"type": "pong"}, to see whether the server is there

and the server

  {"type": "subscribed", "gpus": [...], ..., "cursor"}
  {"type": "unsubscribed", "cursor"}
  {"type": "records", "data": [...], "cursor"}
                          records as in REST, at most 1000 in a message, within 100 ms of being stored. Whose
                          fields come by several uploads comes several times, each time with what is new
  {"type": "missed", "reason", "count", "from", "cursor"}
                          not all came: the reader was too slow (`count` says how many records), or asked for
                          what is too long ago (`count` is null). REST has them. From `from` one can try again
  {"type": "alive", "cursor"}
                          there was nothing to tell for a while
  {"type": "error", "message", "details"}
                          a message that was not understood; after two in a row the socket is closed
  {"type": "closing", "reason", "cursor"}
                          the last message

A `cursor` says up to where the client was told. Who comes back with it, to whichever instance, gets what was
stored since, and possibly again what came last: a record is identified by uuid and timestamp. etcd's history
of a minute or more is what it is told from; what was folded before is `missed`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint, Parameters
from shared.errors import InvalidInput, Transient


class LiveWanted(Parameters):
    """How a page of the web, which cannot send headers with a WebSocket, says who it is."""

    access_token: Annotated[str | None, Field(description="a token of role read")] = None


LIVE = Endpoint(
    service="query",
    method="GET",
    path="/ws",
    summary="Records as they are stored, by WebSocket",
    description=(
        'After the upgrade send `{"type":"subscribe","gpus":[],"hosts":[],"fields":[]}`; an empty list means '
        "all. `records` bring what was stored, with a `cursor` to go on from after a break; `missed` says "
        "that not all came. At most half of an instance's THREADS serve sockets, each for WEBSOCKET_TIMEOUT."
    ),
    tag="live",
    parameters=LiveWanted,
    answers=(Answer(status=101, types=(), description="The connection is a WebSocket from here on."),),
    errors=(InvalidInput, Transient),
)
ENDPOINTS = (LIVE,)
