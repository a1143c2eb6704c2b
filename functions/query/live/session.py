"""One socket from its opening to its end: takes what the client says, sends what there is for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

import pyarrow as pa

from functions.query.live import protocol
from functions.query.live.hub import Hub
from functions.query.live.outbox import Batch, Missed, Outbox
from functions.query.live.subscription import Subscription
from shared.api.live_messages import Ping, Subscribe
from shared.errors import Corrupt, InvalidInput, Transient
from shared.etcd import Compacted
from shared.store.news import Arrival, News

#: Records in one message.
RECORDS_PER_MESSAGE = 1000
#: Seconds of silence after which the socket is told that it is not forgotten, and up to where it was told.
ALIVE_S = 20.0
#: Records that a cursor may bring back; who was away for longer is told that it missed the rest.
MOST_RESUMED = 1_000_000
#: Messages in a row that are not understood, after which the socket is closed.
_MOST_ERRORS = 2
#: Seconds between two looks whether the process ends.
_LOOK_S = 0.25
#: Seconds until something that failed is tried again.
_RETRY_S = 0.3


class Connection(Protocol):
    """A WebSocket; every call may raise where it has ended."""

    def send(self, text: str) -> None:
        """Send a text."""

    def receive(self) -> str | bytes | None:
        """Give the next message that has come, or None."""


class Session:
    """What one socket wants and was told; for the socket's thread."""

    def __init__(
        self,
        hub: Hub,
        news: News,
        stored: Callable[[], Collection[str]],
        wake: threading.Event,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make it.

        Args:
            hub: Where it takes what is new.
            news: Where it takes what came before.
            stored: Lists the fields that some record has.
            wake: Set, by the connection too, when there is something to do.
            is_stopping: Whether the process ends; nobody is woken for that.
        """
        self._hub = hub
        self._news = news
        self._stored = stored
        self._wake = wake
        self._is_stopping = is_stopping
        self.outbox = Outbox(wake.set)
        #: The revision up to which the client was told everything it wants.
        self._told = 0
        #: What is being sent, a message at a time; an empty one where there is none just now, but soon.
        self._sending: Iterator[str] = iter(())
        self._wanted: Subscription | None = None
        self._errors = 0

    def serve(self, connection: Connection, timeout_s: float) -> None:
        """Serve until the client leaves, does not make sense, the time is up, or the process ends."""
        deadline = time.monotonic() + timeout_s
        spoke_at = time.monotonic()
        while True:
            while (text := connection.receive()) is not None:
                connection.send(self._answer(text))
            now = time.monotonic()
            reason = self._find_reason_to_close(now >= deadline)
            if reason:
                connection.send(protocol.closing(reason, self._told))
                return
            message = self._next()
            if message is None and now - spoke_at >= ALIVE_S:
                message = protocol.alive(self._told)
            if message is None:
                self._wake.wait(max(min(deadline, spoke_at + ALIVE_S, now + _LOOK_S) - now, 0.001))
                self._wake.clear()
            elif message:
                connection.send(message)
                spoke_at = time.monotonic()

    def _find_reason_to_close(self, is_late: bool) -> str:
        if self._errors >= _MOST_ERRORS and not is_late:
            return "messages that are not understood"
        if self._is_stopping():
            return "this instance stops"
        return "timeout" if is_late else ""

    def _answer(self, text: str | bytes) -> str:
        try:
            message = protocol.parse_message(text)
            if isinstance(message, Ping):
                answer = protocol.pong()
            elif isinstance(message, Subscribe):
                answer = self._subscribe(message)
            else:
                answer = self._unsubscribe()
        except (InvalidInput, Transient) as exc:
            self._errors += isinstance(exc, InvalidInput)
            return protocol.error(exc)
        self._errors = 0
        return answer

    def _subscribe(self, message: Subscribe) -> str:
        wanted = protocol.read_subscription(message, self._stored)
        if message.cursor is not None:
            self._told = protocol.parse_cursor(message.cursor)
        elif self._wanted is None:
            self._told = self._hub.position()
        # Else what was not sent yet is looked for again, with other eyes.
        self._hub.clear(self.outbox)
        self._wanted = wanted
        self._sending = self._catch_up(wanted)
        return protocol.subscribed(wanted, self._told)

    def _unsubscribe(self) -> str:
        self._hub.clear(self.outbox)
        self._wanted, self._sending = None, iter(())
        return protocol.unsubscribed(self._told)

    def _next(self) -> str | None:
        """Give the next message; None where there is none just now."""
        while True:
            message = next(self._sending, None)
            if message is not None:
                return message
            item, self._told = self._hub.take(self.outbox, self._told)
            if item is None:
                return None
            self._sending = self._send(item)

    def _send(self, item: Batch | Missed) -> Iterator[str]:
        if isinstance(item, Missed):
            yield protocol.missed(item)
        else:
            yield from self._send_records(item.records, item.revision)
        self._told = item.revision

    def _send_records(self, records: pa.Table, revision: int) -> Iterator[str]:
        """Write records; only the last message has the new cursor: who breaks off before gets all again."""
        for start in range(0, records.num_rows, RECORDS_PER_MESSAGE):
            part = records.slice(start, RECORDS_PER_MESSAGE)
            is_last = start + part.num_rows == records.num_rows
            columns = self._wanted.columns if self._wanted else None
            yield protocol.records(part, columns, revision if is_last else self._told)

    def _catch_up(self, wanted: Subscription) -> Iterator[str]:
        """Send from the history what came after the cursor, until the hub has nothing that this lacks."""
        yield from self._check_cursor()
        messages = 0
        while not self._hub.settle(self.outbox, wanted, self._told):
            told, position = self._told, self._hub.position()
            if messages * RECORDS_PER_MESSAGE > MOST_RESUMED:
                yield from self._send(Missed("history", None, told, position))
                continue
            try:
                for arrival in self._news.between(told, position):
                    for message in self._send_arrival(arrival, wanted):
                        yield message
                        messages += 1
            except Transient:
                self._pause()
            if self._told == told:
                yield ""

    def _pause(self) -> None:
        """Wait a moment, or until the client says something, which is looked for next."""
        self._wake.wait(_RETRY_S)
        self._wake.clear()

    def _check_cursor(self) -> Iterator[str]:
        """Start afresh where the cursor is of another etcd, or of one that was restored since."""
        position = self._hub.position()
        if self._told <= position:
            return
        # It may also be of another instance that is a moment ahead.
        while True:
            try:
                newest = self._news.now()[1]
                break
            except Transient:
                self._pause()
                yield ""
        if self._told > newest:
            yield from self._send(Missed("history", None, self._told, position))

    def _send_arrival(self, arrival: Arrival, wanted: Subscription) -> Iterator[str]:
        lost = arrival.lost
        for segment in arrival.segments:
            try:
                records = wanted.select(self._news.read(segment))
            except (Compacted, Corrupt):
                lost = True
                continue
            yield from self._send_records(records, self._told)
        if lost:
            yield protocol.missed(Missed("history", None, self._told, arrival.revision))
        self._told = arrival.revision
