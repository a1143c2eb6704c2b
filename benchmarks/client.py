"""The HTTP client of all but the open-loop load: one keep-alive connection, bodies in 1 MiB blocks."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from benchmarks.processes import BenchmarkFailure

BLOCK_BYTES = 1024 * 1024
_TIMEOUT_S = 600.0


class Http:
    """A connection to one server, opened again when the server has closed it; for one thread."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = port
        self._host = host
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self,
        method: str,
        path: str,
        body: BinaryIO | bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request and read its answer to the end.

        Raises:
            BenchmarkFailure: It is not answered, or not with a 2xx.
        """
        try:
            status, answer = self._exchange(method, path, body, headers or {})
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as exc:
            if body is not None and not isinstance(body, bytes):
                raise BenchmarkFailure(f"{method} {path[:200]}: the connection broke") from exc
            # A keep-alive connection that the server closed while it was idle.
            status, answer = self._repeat(method, path, body, headers or {})
        if not 200 <= status < 300:
            raise BenchmarkFailure(f"{method} {path[:200]}: {status} {answer[:300].decode(errors='replace')}")
        return answer

    def _repeat(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        try:
            return self._exchange(method, path, body, headers)
        except OSError as exc:
            raise BenchmarkFailure(f"{method} {path[:200]} on port {self.port}: {exc!r}") from exc

    def _exchange(
        self,
        method: str,
        path: str,
        body: BinaryIO | bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._host, self.port, timeout=_TIMEOUT_S, blocksize=BLOCK_BYTES
            )
        try:
            self._connection.request(method, path, body, dict(headers))
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            raise
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            raise BenchmarkFailure(f"{method} {path[:200]} on port {self.port}: {exc!r}") from exc

    def stream(self, path: str) -> Iterable[bytes]:
        """GET a long answer, block by block."""
        connection = http.client.HTTPConnection(self._host, self.port, timeout=_TIMEOUT_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise BenchmarkFailure(f"GET {path}: {answer.status} {answer.read(300).decode(errors='replace')}")
        while block := answer.read(BLOCK_BYTES):
            yield block
        connection.close()

    def get(self, path: str, **parameters: str | int) -> Any:
        """GET JSON."""
        return json.loads(self.get_bytes(path, **parameters))

    def get_bytes(self, path: str, **parameters: str | int) -> bytes:
        """GET bytes."""
        return self.request("GET", with_parameters(path, **parameters))

    def post_json(self, path: str, value: Any) -> Any:
        """POST JSON and read JSON."""
        data = json.dumps(value).encode()
        return json.loads(self.request("POST", path, data, {"Content-Type": "application/json"}))

    def post_file(self, path: str, file: BinaryIO, size: int) -> bytes:
        """POST a file, sent in blocks of 1 MiB as it is read, over a new connection."""
        # An idle one may be closed by the server just now, and a file is not sent twice.
        self.close()
        return self.request("POST", path, file, {"Content-Type": "text/csv", "Content-Length": str(size)})

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def with_parameters(path: str, **parameters: str | int) -> str:
    """Add query parameters to a path."""
    return f"{path}?{urlencode(parameters, quote_via=quote)}" if parameters else path


def find_free_port() -> int:
    """Find a TCP port that nobody listens on."""
    return find_free_ports(1)[0]


def find_free_ports(count: int) -> list[int]:
    """Find so many of them, each another one: one that is let go may be found again."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
