"""What the queue source takes for collect: an HTTP server that answers as it is told, and keeps account."""

from __future__ import annotations

import json
import threading

from shared.etcd import Delete
from tests.serving import Handler, Server

#: Instead of a status: end the connection without an answer.
RESET = "reset"


class StandIn(Server):
    """Takes events and deletes what they name from the queue, unless its answer says otherwise.

    `answer` is given the number of the event, from 0, and the ids it names; it returns a status, or (status,
    headers), or RESET, and may block. Only what it answers with a status below 300 is taken.
    """

    def __init__(self, etcd, keys, answer=lambda _number, _ids: 204, port=0, ssl_context=None):
        self._etcd, self._keys = etcd, keys
        self._answer = answer
        self._lock = threading.Lock()
        #: (headers, ids) of every event.
        self.events = []
        #: Ids as they were taken, those that were taken twice twice.
        self.taken = []
        #: Ids that were named by two events at the same time.
        self.doubled = set()
        self.at_once, self.most_at_once = 0, 0
        self._under_way = []
        stand_in = self

        class Taking(Handler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                body = json.loads(self.read_body())
                status, headers = stand_in.take(
                    dict(self.headers.items()), [m["id"] for m in body["messages"]]
                )
                if status == RESET:
                    self.close_connection = True
                    return
                self.answer(status, **headers)

        super().__init__(Taking, port, ssl_context)

    def take(self, headers, ids):
        with self._lock:
            number = len(self.events)
            self.events.append((headers, ids))
            self.doubled |= {i for other in self._under_way for i in other if i in ids}
            self._under_way.append(ids)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        answer = self._answer(number, ids)
        status, more = answer if isinstance(answer, tuple) else (answer, {})
        if status != RESET and status < 300:
            names = (name for i in ids for name in (self._keys.ready(i), self._keys.payload(i)))
            self._etcd.txn([], [Delete(name) for name in names])
        with self._lock:
            self._under_way.remove(ids)
            self.at_once -= 1
            if status != RESET and status < 300:
                self.taken += ids
        return status, more
