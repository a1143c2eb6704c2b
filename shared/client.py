"""The HTTP API's client for the command: small, typed, and one clear sentence for every failure."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlencode

import urllib3

from shared.errors import (
    BadConfig,
    Conflict,
    Forbidden,
    InvalidInput,
    LimitExceeded,
    NoSpace,
    NotAcceptable,
    NotFound,
    NothingAccepted,
    PipelineError,
    TooManyRequests,
    Transient,
    Unauthorized,
    UnsupportedMedia,
)
from shared.tokens import is_token

#: Uploads are read from disk and sent in blocks of this size.
BLOCK_BYTES = 1024 * 1024
#: A local port refuses at once; this is for a host that does not answer.
_CONNECT_S = 5.0
#: Between two pieces of an answer.
_IDLE_S = 60.0
#: During an upload: the server may be held up by etcd for a while, the connection is not to be given up.
_UPLOAD_IDLE_S = 300.0
#: As long as a function may take for one request: longer than Knative allows unless told otherwise.
_LONGEST_S = 600.0

#: Uploads that one answer lists.
PAGE = 200
#: States of an upload whose rows are gone, or going.
UNDONE = ("deleting", "deleted")
ARROW_TYPE = "application/vnd.apache.arrow.stream"

_BROKE_OFF = "the answer broke off before it was complete"
_DATA = re.compile(r'"data"\s*:\s*\[')

_BY_STATUS: dict[int, type[PipelineError]] = {
    400: InvalidInput,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: InvalidInput,
    406: NotAcceptable,
    409: Conflict,
    413: LimitExceeded,
    415: UnsupportedMedia,
    422: NothingAccepted,
    429: TooManyRequests,
    502: Transient,
    503: Transient,
    504: Transient,
    507: NoSpace,
}

#: What whoever stands before a function answers in its place, in a word: it may answer again soon.
_FROM_A_GATEWAY = frozenset({502, 503, 504})

Json = dict[str, Any]


class Client:
    """One function's address; thread-safe."""

    def __init__(self, url: str, token: str = "", *, idle_s: float = _IDLE_S) -> None:
        """Make a client, which sends a token where there is one.

        Args:
            url: The address.
            token: What is sent with every request; empty: nothing.
            idle_s: How long `read` waits between two pieces of an answer.

        Raises:
            BadConfig: Not an http:// or https:// address, or not a token.
        """
        if token and not is_token(token):
            raise BadConfig("the token is none: printable ASCII without spaces is expected")
        if not url.startswith(("http://", "https://")):
            raise BadConfig(f"{url!r} is not an address: expected http://host:port")
        self.url = url.rstrip("/")
        #: What every request carries.
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._idle_s = idle_s
        self._http = urllib3.PoolManager(retries=False, blocksize=BLOCK_BYTES, headers=self.headers)

    def read(self, path: str, **parameters: str | int | None) -> Json:
        """GET a path; returns the whole envelope. Parameters that are None are left out.

        Raises:
            PipelineError: Of the class that goes with the status, or Transient when nothing answers.
        """
        return self.send("GET", path, **parameters)

    def send(self, method: str, path: str, **parameters: str | int | None) -> Json:
        """Send a request without a body; as `read` for any method."""
        with self._failures():
            address = self._address(path, parameters)
            answer = self._http.request(method, address, timeout=_timeout(self._idle_s))
            return self._parse(answer.status, answer.data)

    @contextmanager
    def stream(self, path: str, **parameters: str | int | None) -> Iterator[Iterator[bytes]]:
        """GET a path whose answer may be long; gives its bytes as they come.

        Raises:
            PipelineError: As `read`; also while iterating, when the answer breaks off.
        """
        with self._failures():
            answer = self._http.request(
                "GET", self._address(path, parameters), timeout=_timeout(_IDLE_S), preload_content=False
            )
            with closing(answer):
                if answer.status >= 300:  # noqa: PLR2004
                    self._parse(answer.status, answer.read())
                yield answer.stream(64 * 1024)

    def upload(self, file: Path, on_progress: Callable[[int], None]) -> Json:
        """POST a CSV file, read from disk as it is sent; returns the report's envelope.

        Args:
            file: Any file that can be read.
            on_progress: Told the number of bytes each time some are sent.

        Raises:
            InvalidInput: The file cannot be read.
            PipelineError: As `read`.
        """
        try:
            body = file.open("rb")
        except OSError as exc:
            raise InvalidInput(f"{file} cannot be read: {exc.strerror}") from exc
        # A pipe has no length: it goes in chunks.
        length = {"Content-Length": str(file.stat().st_size)} if file.is_file() else {}
        with body:
            return self.post(
                "/api/v1/csv/upload",
                _iter_blocks(body, file, on_progress),
                {"Content-Type": "text/csv", **length},
                filename=file.name,
            )

    def post(
        self,
        path: str,
        body: Iterable[bytes],
        headers: Mapping[str, str],
        **parameters: str | int | None,
    ) -> Json:
        """POST a body piece by piece, in chunks unless its length is among the headers.

        Raises:
            PipelineError: As `read`.
        """
        with self._failures():
            answer = self._http.request(
                "POST",
                self._address(path, parameters),
                body=body,
                headers={**self.headers, **headers},
                # urllib3 sends under the connect timeout.
                timeout=urllib3.Timeout(connect=_UPLOAD_IDLE_S, read=_UPLOAD_IDLE_S),
            )
            return self._parse(answer.status, answer.data)

    def exchange(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """POST a body; returns what was answered, status and body, an error as well.

        Raises:
            Transient: Nothing was answered.
        """
        with self._failures():
            answer = self._http.request(
                "POST",
                self._address(path, {}),
                body=body,
                headers={**self.headers, **headers},
                timeout=_timeout(_LONGEST_S),
            )
            return answer.status, answer.data

    def read_upload(self, upload_id: str) -> Json:
        """GET an upload: what it was, and whether its rows are queued or stored."""
        return self.read(_upload_path(upload_id))

    def iter_uploads(self, *, full: bool = False, limit: int | None = None) -> Iterator[Json]:
        """GET the uploads, newest first, page by page; with `full` each carries its whole `record`."""
        before = None
        left = limit
        while left is None or left > 0:
            page = self.read(
                "/api/v1/uploads",
                limit=PAGE if left is None else min(left, PAGE),
                before=before,
                full="true" if full else None,
            )
            yield from page["data"]
            before = page["next"]
            if before is None:
                return
            left = None if left is None else left - len(page["data"])

    def delete_upload(self, upload_id: str, *, dry_run: bool) -> Json:
        """DELETE an upload with all its rows, or only say what would go."""
        return self._send("DELETE", _upload_path(upload_id), dry_run="true" if dry_run else None)

    def read_retention(self) -> Json:
        """GET what retention keeps, day by day, and what is past it."""
        return self.read("/retention")

    def sweep(self) -> Json:
        """POST: delete what is past retention now; says what went."""
        return self._send("POST", "/retention")

    def import_rows(self, filename: str, stream: Iterable[bytes]) -> Json:
        """POST rows with versions of their own, as an Arrow IPC stream; returns the report's envelope."""
        return self.post("/api/v1/import", stream, {"Content-Type": ARROW_TYPE}, filename=filename)

    def import_uploads(self, records: bytes) -> Json:
        """POST records of uploads, one JSON object a line; those that are there stay as they are."""
        headers = {"Content-Type": "application/x-ndjson", "Content-Length": str(len(records))}
        return self.post("/api/v1/import/uploads", [records], headers)

    def _send(self, method: str, path: str, **parameters: str | int | None) -> Json:
        with self._failures():
            address = self._address(path, parameters)
            answer = self._http.request(method, address, timeout=_timeout(_UPLOAD_IDLE_S))
            return self._parse(answer.status, answer.data)

    def _address(self, path: str, parameters: Mapping[str, str | int | None]) -> str:
        given = {name: value for name, value in parameters.items() if value is not None}
        return f"{self.url}{path}?{urlencode(given)}" if given else f"{self.url}{path}"

    def _parse(self, status: int, body: bytes) -> Json:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) and status in _FROM_A_GATEWAY:
            said = body[:200].decode(errors="replace").strip()
            raise Transient(f"{self.url} answered {status}: {said or 'nothing more'}")
        if not isinstance(answer, dict):
            raise PipelineError(f"{self.url} answered {status} and no JSON: is it a gpu-telemetry function?")
        if status < 300:  # noqa: PLR2004
            return answer
        error = answer.get("error")
        error = error if isinstance(error, dict) else {}
        message = str(error.get("message") or f"{self.url} answered {status}")
        details = error.get("details")
        fields = {str(k): v for k, v in details.items()} if isinstance(details, dict) else {}
        fields.pop("message", None)
        if status == 401:  # noqa: PLR2004
            message += " (the command: --token, --token-file or GPU_TELEMETRY_TOKEN)"
        raise _BY_STATUS.get(status, PipelineError)(message, **fields)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Map what urllib3 raises to our errors."""
        try:
            yield
        except urllib3.exceptions.NewConnectionError as exc:
            raise Transient(f"nothing answers at {self.url}: is `gpu-telemetry up` running?") from exc
        except urllib3.exceptions.ConnectTimeoutError as exc:
            raise Transient(f"{self.url} cannot be reached") from exc
        except urllib3.exceptions.LocationValueError as exc:
            raise BadConfig(f"{self.url!r} is not an address: expected http://host:port") from exc
        except urllib3.exceptions.TimeoutError as exc:
            raise Transient(f"{self.url} stopped answering") from exc
        except urllib3.exceptions.HTTPError as exc:
            raise Transient(f"{self.url} broke the connection before its answer was complete") from exc


def quote_id(given: str) -> str:
    """Quote an id for a path.

    Raises:
        InvalidInput: The path would lead elsewhere: to all there are, or to what is above.
    """
    if given in ("", ".", ".."):
        raise InvalidInput(f"{given!r} is not an id: name the one that is meant")
    return quote(given, safe="")


def _upload_path(upload_id: str) -> str:
    return f"/api/v1/uploads/{quote_id(upload_id)}"


def _iter_blocks(body: BinaryIO, file: Path, on_progress: Callable[[int], None]) -> Iterator[bytes]:
    while True:
        try:
            block = body.read(BLOCK_BYTES)
        except OSError as exc:
            # urllib3 would take it for a failure of the connection.
            raise InvalidInput(f"{file} cannot be read: {exc.strerror or exc}") from exc
        if not block:
            return
        on_progress(len(block))
        yield block


def iter_records(parts: Iterator[bytes]) -> Generator[Json, None, Json]:
    """Read the elements of an envelope's `data` list one by one, as they arrive.

    Returns:
        What stands behind the list, such as `count` and `next`.

    Raises:
        Transient: The answer ends before its end.
    """
    decoder = json.JSONDecoder()
    utf8 = codecs.getincrementaldecoder("utf-8")()  # a part may end within a character
    text, started = "", False
    for part in parts:
        text += utf8.decode(part)
        if not started:
            match = _DATA.search(text)
            if match is None:
                continue
            text, started = text[match.end() :], True
        position = 0
        while True:
            while position < len(text) and text[position] in " \t\r\n,":
                position += 1
            if text.startswith("]", position):
                rest = text[position + 1 :] + "".join(utf8.decode(part) for part in parts)
                return _parse_rest(rest.strip())
            try:
                record, position = decoder.raw_decode(text, position)
            except ValueError:
                break
            yield record
        text = text[position:]
    raise Transient(_BROKE_OFF)


def _parse_rest(text: str) -> Json:
    """Read what stands behind a list in an envelope: further members, if any, and the brace at its end."""
    try:
        rest = json.loads("{" + text.removeprefix(","))
    except ValueError as exc:
        raise Transient(_BROKE_OFF) from exc
    return cast("Json", rest)


def _timeout(idle_s: float) -> urllib3.Timeout:
    return urllib3.Timeout(connect=_CONNECT_S, read=idle_s)
