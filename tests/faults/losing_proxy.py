"""A TCP proxy that loses answers: it hands a request on and drops the connection before its answer is back."""

from __future__ import annotations

import contextlib
import random
import socket
import threading

#: Smaller writes are HTTP/2's own affairs (settings, acknowledgements); a request with a key is larger.
SMALLEST_REQUEST_BYTES = 60
#: For how long answers are swallowed: time enough for etcd to do what it was asked.
SWALLOW_S = 0.03


class LosingProxy:
    """Forwards to one address from `__enter__` on, and loses one answer in so many."""

    def __init__(self, target, chance: random.Random, *, one_in):
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._random = random.Random(chance.random())
        self._one_in = one_in
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.lost = 0
        self.losing = True

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        # `close` alone would leave the thread in `accept`.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            _Connection(self, client, server).start()

    def draws_loss(self):
        """Decide whether the answer to a request will be lost."""
        if self.losing and self._random.randrange(self._one_in) == 0:
            self.lost += 1
            return True
        return False


class _Connection:
    """One connection: two threads, one for each way."""

    def __init__(self, proxy, client, server):
        self._proxy, self._client, self._server = proxy, client, server
        self._swallows = threading.Event()

    def start(self):
        for pump in (self._requests, self._answers):
            threading.Thread(target=pump, daemon=True).start()

    def _requests(self):
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                if len(data) >= SMALLEST_REQUEST_BYTES and self._proxy.draws_loss():
                    self._swallows.set()
                    threading.Timer(SWALLOW_S, self._close).start()
                self._server.sendall(data)
        self._close()

    def _answers(self):
        with contextlib.suppress(OSError):
            while data := self._server.recv(65536):
                if not self._swallows.is_set():
                    self._client.sendall(data)
        self._close()

    def _close(self):
        for side in (self._client, self._server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()
