"""The admin port: GET /health and GET /services."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from local_runtime.supervisor import ServiceState, describe_states

#: Reads the state of every process; from any thread.
ReadStates = Callable[[], Sequence[ServiceState]]


def build_answer(path: str, states: Sequence[ServiceState]) -> tuple[int, dict[str, object]]:
    """Build the answer to a GET: status and body."""
    if path == "/services":
        return 200, {"services": describe_states(states)}
    if path == "/health":
        ready = bool(states) and all(state.ready for state in states)
        about = {"service": "runtime", "version": version("gpu-telemetry"), "ready": ready}
        return 200, {"status": "healthy", **about}
    error = {"code": "not_found", "message": f"there is no {path}: /health, /services", "details": {}}
    return 404, {"success": False, "error": error}


class AdminServer:
    """Answers in threads of its own, from `start` to `stop`."""

    def __init__(self, host: str, port: int, read_states: ReadStates) -> None:
        """Listen at once; answers begin with `start`."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = build_answer(self.path.split("?")[0].rstrip("/") or "/", read_states())
                data = json.dumps(body).encode() + b"\n"
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_args: object) -> None:
                """Write no access log."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, name="admin", daemon=True).start()

    def stop(self) -> None:
        """Answer no more and close the port."""
        self._server.shutdown()
        self._server.server_close()
