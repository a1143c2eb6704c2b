"""A sink that gives every event of the queue source to all collectors at once, and later once more."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3

from tests.functions import ROOT


class DoublingSink:
    """What the queue source takes for collect."""

    def __init__(self, collectors):
        self._collectors = [f.url for f in collectors]
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(60), maxsize=40)
        self._pool = ThreadPoolExecutor(40)
        #: (headers, body) of every event.
        self.events = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                headers = {
                    k: v for k, v in self.headers.items() if k.lower().startswith(("ce-", "content-type"))
                }
                event = headers, self.rfile.read(int(self.headers["Content-Length"]))
                sink.events.append(event)
                self.send_response(204 if sink.post(event) else 503)
                self.end_headers()

            def log_message(self, *_args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        self._server.shutdown()
        self._server.server_close()
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
