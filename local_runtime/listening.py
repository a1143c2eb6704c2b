"""Listening to query's WebSocket: what is stored, as it is stored, over as many connections as it takes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

from simple_websocket import Client as WebSocket
from simple_websocket import ConnectionClosed
from simple_websocket import ConnectionError as NotConnected

from shared.client import Client, Json
from shared.errors import InvalidInput, Transient

#: Seconds without a word after which a connection is given up: the server says `alive` every 20.
_SILENCE_S = 60.0
#: Seconds until a connection is tried again.
_RETRY_S = 1.0


def iter_messages(client: Client, wanted: Mapping[str, Sequence[str]]) -> Iterator[Json]:
    """Yield what the server says, without end; a connection that ends is followed by one that goes on.

    Args:
        client: The query function's.
        wanted: The lists of a subscription: gpus, hosts, models, fields.

    Raises:
        PipelineError: The first connection is refused, with the reason; or the subscription is.
    """
    cursor: str | None = None
    while True:
        with (
            suppress(ConnectionClosed, OSError),
            closing(_connect(client, is_first=cursor is None)) as socket,
        ):
            socket.send(json.dumps({"type": "subscribe", **wanted, **({"cursor": cursor} if cursor else {})}))
            while text := socket.receive(timeout=_SILENCE_S):
                message: Json = json.loads(text)
                if message["type"] == "error":
                    raise InvalidInput(message["message"])
                cursor = message.get("cursor", cursor)
                yield message
        threading.Event().wait(_RETRY_S)


class _Refused(OSError):
    """The connection was refused, after others were not."""


def _connect(client: Client, *, is_first: bool) -> Any:
    address = client.url.replace("http", "ws", 1) + "/ws"
    try:
        return WebSocket.connect(address, headers=client.headers)
    except (NotConnected, OSError) as exc:
        if not is_first:
            raise _Refused from exc
        # A plain request is answered with the reason, but where only a WebSocket is refused.
        with suppress(InvalidInput):
            client.read("/ws")
        raise Transient(f"{client.url} has no WebSocket to spare just now; try again") from exc
