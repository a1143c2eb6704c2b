"""The way in to the WebSocket: who may have one, and how many there are.

functions-framework answers an upgrade on an ordinary path with 400, so that /ws is a route of its own, added
when the function is imported, which is within the framework's application. Everything else of this package is
imported when the first socket opens.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from flask import Request, Response, current_app, has_app_context
from flask import request as current_request

from shared.api.live import LIVE, LiveWanted
from shared.errors import InvalidInput, Transient
from shared.http import Route
from shared.http.worker import is_stopping

if TYPE_CHECKING:
    from functions.query.live.hub import Hub
    from shared.store.news import News

log = logging.getLogger(__name__)

#: Seconds after which one may ask again where all places are taken.
_RETRY_AFTER_S = 10


class Live:
    """The WebSocket of a function whose threads each serve one socket, or one request, at a time."""

    def __init__(
        self,
        news: Callable[[], News],
        stored: Callable[[], Collection[str]],
        upgrade: Callable[[Request, Callable[[], Response]], Response],
        *,
        threads: int,
        timeout_s: float,
    ) -> None:
        """Make it, and add its route where there is an application.

        Args:
            news: Gives what is new in the store.
            stored: Lists the fields that some record has.
            upgrade: Answers a request by what it is given, where the request may have a socket.
            threads: The function's; sockets get half of them.
            timeout_s: Seconds for which one socket is served.
        """
        self._news = news
        self._stored = stored
        self._upgrade = upgrade
        self._most = max(threads // 2, 1)
        self._places = threading.Semaphore(self._most)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._hub: Hub | None = None
        if has_app_context():
            current_app.add_url_rule(LIVE.path, "live", self._open, websocket=True)

    def routes(self) -> list[Route]:
        """List what is served to requests that are no upgrade."""
        return [Route(LIVE, _refuse)]

    def _open(self) -> Response:
        environ = current_request.environ

        def serve() -> Response:
            with self._place():
                self._serve(environ)
            return _Taken()

        return self._upgrade(current_request, serve)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            exc = Transient(f"all {self._most} places for WebSockets are taken here: try again")
            exc.retry_after_s = _RETRY_AFTER_S
            raise exc
        try:
            yield
        finally:
            self._places.release()

    def _serve(self, environ: dict[str, Any]) -> None:
        """Serve one socket to its end.

        Raises:
            PipelineError: There is none yet, and there will be none.
        """
        from simple_websocket import ConnectionClosed  # noqa: PLC0415  (45 ms, and only for sockets)

        from functions.query.live.connection import accepted  # noqa: PLC0415
        from functions.query.live.session import Session  # noqa: PLC0415

        hub, wake = self._find_hub(), threading.Event()
        session = Session(hub, self._news(), self._stored, wake, is_stopping)
        hub.join(session.outbox)
        try:
            with accepted(environ, wake) as connection:
                try:
                    session.serve(connection, self._timeout_s)
                except (ConnectionClosed, OSError):
                    pass  # the client left
                except Exception:
                    log.exception("a socket has a defect", extra={"action": "crash"})
        finally:
            hub.leave(session.outbox)

    def _find_hub(self) -> Hub:
        from functions.query.live.hub import Hub  # noqa: PLC0415

        with self._lock:
            if self._hub is None:
                self._hub = Hub(self._news)
            return self._hub


class _Taken(Response):
    """No answer any more: the connection was a WebSocket's, and has ended; gunicorn closes it."""

    def __init__(self) -> None:
        super().__init__(iter(()), 101)

    def __call__(self, *_environ_and_start: Any) -> NoReturn:
        """Send nothing, to the end."""
        for _ in self.response:
            pass
        self.close()
        raise StopIteration


def _refuse(_request: Request, _wanted: LiveWanted) -> NoReturn:
    raise InvalidInput("this is a WebSocket: ask with Upgrade: websocket, as its clients do")
