"""Containers whose memory ran out, as the engine tells of them."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import docker
from docker.errors import APIError
from docker.types import CancellableStream

from local_runtime.containers.engine import ENGINE_ERRORS, release

#: How soon an engine that went away is looked for again.
_RETRY_S = 1.0
_STOP_TIMEOUT_S = 5.0


class Watcher:
    """Kills the whole of a container whose memory ran out, as a cluster does; in a thread of its own.

    The kernel kills one process only, which may be a worker that its parent starts again and again.
    """

    def __init__(self, api: docker.APIClient, label: str) -> None:
        """Watch the containers that have a label."""
        self._api = api
        self._label = label
        self._events: CancellableStream[dict[str, Any]] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="container-events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        if self._events is not None:
            with contextlib.suppress(OSError):  # the engine may have closed it
                self._events.close()
        self._thread.join(_STOP_TIMEOUT_S)

    def _watch(self) -> None:
        while not self._stopped.is_set():
            # An engine that is started again is watched again.
            with contextlib.suppress(*ENGINE_ERRORS):
                self._follow()
            self._stopped.wait(_RETRY_S)

    def _follow(self) -> None:
        events = self._api.events(decode=True, filters={"event": "oom", "label": self._label})
        self._events = events
        try:
            # Whoever stopped meanwhile has not seen these events.
            for event in events if not self._stopped.is_set() else ():
                # It may have been the only process.
                with contextlib.suppress(APIError):
                    self._api.kill(event["id"])
        finally:
            release(events)
