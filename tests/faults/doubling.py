"""A sink that gives every event of the queue source to all collectors at once, and later once more."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import urllib3

from tests.functions import ROOT
from tests.serving import Handler, Server


class DoublingSink(Server):
    """What the queue source takes for collect."""

    def __init__(self, collectors):
        self._collectors = [f.url for f in collectors]
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(60), maxsize=40)
        self._pool = ThreadPoolExecutor(40)
        #: (headers, body) of every event.
        self.events = []
        sink = self

        class Doubling(Handler):
            def serve(self):
                headers = {
                    k: v for k, v in self.headers.items() if k.lower().startswith(("ce-", "content-type"))
                }
                event = headers, self.read_body()
                sink.events.append(event)
                self.send_response(204 if sink.post(event) else 503)
                self.end_headers()

        super().__init__(Doubling)

    def __exit__(self, *exc):
        super().__exit__(*exc)
        self._pool.shutdown()

    def post(self, event):
        """Give an event to all at the same moment; whether all took it."""
        together = threading.Barrier(len(self._collectors))

        def one(url):
            together.wait(30)
            return self._http.request("POST", url, headers=event[0], body=event[1]).status

        return all(status < 300 for status in self._pool.map(one, self._collectors))


@contextlib.contextmanager
def running_source(tmp_path, env, sink):
    """Run the queue source, dealing to a sink."""
    with (tmp_path / "queue-source.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "functions.collect.queue_source"],
            cwd=ROOT,
            env={**env, "K_SINK": sink},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
