"""Where requests for a service come in; a member of a stage between the functions and the sources."""

from __future__ import annotations

import asyncio
from typing import Any

from local_runtime.activator.server import Activator
from shared.errors import Conflict

#: Requests under way are waited for as long when the runtime ends.
CLOSING_GRACE_S = 3.0


class Listener:
    """One service's activator on its known port."""

    is_settled = True
    grace_s = CLOSING_GRACE_S

    def __init__(self, name: str, activator: Activator, host: str, port: int) -> None:
        self.name = name
        self._activator = activator
        self._host, self._port = host, port
        self._task: asyncio.Task[Any] | None = None

    @property
    def was_ready(self) -> bool:
        """Whether it listens."""
        return self._task is not None and self._task.done()

    def start(self, _now_s: float) -> None:
        """Listen."""
        self._task = asyncio.ensure_future(self._activator.listen(self._host, self._port))

    def tick(self, _now_s: float) -> None:
        """Notice that it cannot listen.

        Raises:
            Conflict: The port is taken.
        """
        if self._task is not None and self._task.done() and (failure := self._task.exception()):
            raise Conflict(f"cannot listen on {self._host}:{self._port} for {self.name}: {failure}")

    def terminate(self) -> None:
        """Accept nothing more; requests under way are answered."""
        self._task = asyncio.ensure_future(self._activator.close(CLOSING_GRACE_S))

    def is_running(self) -> bool:
        """Whether it still answers."""
        return self._task is not None and not self._task.done()

    def clear(self) -> None:
        """Cut what is left."""
        if self._task is not None:
            self._task.cancel()
