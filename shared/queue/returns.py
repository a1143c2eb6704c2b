"""Messages to be given back when etcd answers again: an attempt that its absence ended does not count."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.errors import NoSpace, PipelineError, Transient

log = logging.getLogger(__name__)

#: Seconds between two tries.
_RETRY_S = 0.5
#: Seconds after which the attempts are left counted.
_GIVE_UP_S = 300.0


class _Owed(NamedTuple):
    messages: tuple[str, ...]
    lease: int
    since: float


class Returns:
    """Gives claims back in the background; thread-safe. A process that dies meanwhile leaves them counted."""

    def __init__(self, give_back: Callable[[Sequence[str], int], None]) -> None:
        self._give_back = give_back
        self._lock = threading.Lock()
        self._owed: deque[_Owed] = deque()
        self._running = False

    def __len__(self) -> int:
        return len(self._owed)

    def add(self, messages: Sequence[str], lease: int) -> None:
        """Give these back, if they are still claimed under the lease, as soon as etcd answers."""
        with self._lock:
            self._owed.append(_Owed(tuple(messages), lease, time.monotonic()))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="returns", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._owed:
                    self._running = False
                    return
                owed = self._owed[0]
            if not self._try(owed):
                threading.Event().wait(_RETRY_S)
                continue
            with self._lock:
                self._owed.popleft()

    def _try(self, owed: _Owed) -> bool:
        """Give one group back; False where that is to be tried again."""
        try:
            self._give_back(owed.messages, owed.lease)
        except (Transient, NoSpace):
            return time.monotonic() - owed.since > _GIVE_UP_S
        except PipelineError as exc:
            log.warning("could not give messages back: %s", exc, extra={"action": "give_back_failed"})
        return True
