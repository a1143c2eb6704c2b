"""A queue source that deals in the test's own process."""

from __future__ import annotations

import contextlib
import threading

from functions.collect.pace import MAX_IN_FLIGHT
from functions.collect.queue_source import QueueSource
from functions.collect.sink import Sink

AN_HOUR = 3600.0


@contextlib.contextmanager
def dealing(queue, url, *, poll_interval_s=AN_HOUR, timeout_s=30.0, stop_s=0.2):
    """Run a queue source in this process."""
    sink = Sink(url, connections=MAX_IN_FLIGHT, timeout_s=timeout_s)
    source = QueueSource(queue, sink, poll_interval_s, stop_s=stop_s)
    thread = threading.Thread(target=source.run)
    thread.start()
    try:
        yield source
    finally:
        source.stop()
        thread.join(10)
        assert not thread.is_alive()
