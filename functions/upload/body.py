"""The body of an upload, as something to read from: bare, or the `file` field of a multipart form.

Multipart is taken apart as it arrives: nothing is spooled to disk (a read-only root has none), and memory
stays constant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator

from flask import Request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from shared.errors import InvalidInput, LimitExceeded, UnsupportedMedia
from shared.http import read_body

#: Content types of a bare CSV; curl's --data-binary says the last but one unless told otherwise.
BARE_TYPES = (
    "text/csv",
    "text/plain",
    "text/tab-separated-values",
    "application/csv",
    "application/vnd.ms-excel",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "",
)
_READ_BYTES = 256 * 1024
#: What the form decoder may hold at a time: a piece just read, and a part's headers before it.
_MAX_BUFFERED_BYTES = 2 * _READ_BYTES


class Body:
    """An upload's bytes, counted and hashed as they are read."""

    def __init__(
        self,
        request: Request,
        max_bytes: int,
        types: Collection[str] = BARE_TYPES,
        *,
        filename: str = "",
    ) -> None:
        self._types = types
        self.filename = filename[:1024]
        self.bytes = 0
        self.warnings: list[str] = []
        self._sha256 = hashlib.sha256()
        self._max_bytes = max_bytes
        if (request.content_length or 0) > max_bytes:
            raise self._too_large(request.content_length or 0)
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise UnsupportedMedia(f"Content-Encoding {encoding!r}: send the body uncompressed")
        self._read = self._source(request)

    def _source(self, request: Request) -> Callable[[int], bytes]:
        if request.mimetype == "multipart/form-data" and self._types is BARE_TYPES:
            boundary = request.mimetype_params.get("boundary", "")
            if not boundary:
                raise InvalidInput("the multipart form has no boundary")
            return _Pieces(self._iter_file(request, boundary.encode())).read
        if request.mimetype not in self._types:
            wanted = "text/csv, or multipart/form-data with a field file"
            wanted = wanted if self._types is BARE_TYPES else " or ".join(self._types)
            raise UnsupportedMedia(f"Content-Type {request.mimetype!r}: send {wanted}")
        expected = request.content_length

        def read(size: int) -> bytes:
            data = read_body(request, size)
            if not data and expected is not None and self.bytes < expected:
                raise ClientDisconnected
            return data

        return read

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; empty at the end.

        Raises:
            ClientDisconnected: The connection broke before the body was complete.
            LimitExceeded: The body is larger than MAX_UPLOAD_SIZE.
        """
        data = self._read(size)
        self.bytes += len(data)
        if self.bytes > self._max_bytes:
            raise self._too_large(self.bytes)
        self._sha256.update(data)
        return data

    def sha256(self) -> str:
        """Hash what was read so far."""
        return self._sha256.hexdigest()

    def _too_large(self, size: int) -> LimitExceeded:
        return LimitExceeded(
            f"the upload has {size} bytes or more, MAX_UPLOAD_SIZE is {self._max_bytes}: split the file",
            max_upload_size=self._max_bytes,
        )

    def _iter_file(self, request: Request, boundary: bytes) -> Iterator[bytes]:
        """Yield the bytes of the field `file`, and read the form to its end."""
        decoder = MultipartDecoder(boundary, max_form_memory_size=_MAX_BUFFERED_BYTES)
        seen: list[str] = []
        inside = found = False
        for event in _events(decoder, request):
            if isinstance(event, File | Field):
                inside = event.name == "file" and not found
                seen.append(event.name or "")
                if isinstance(event, File) and inside:
                    self.filename = (event.filename or self.filename)[:1024]
                if event.name == "file" and found:
                    self.warnings.append("the form has a second field `file`: it was not read")
                found = found or inside
            elif isinstance(event, Data) and inside:
                yield event.data
        if not found:
            raise InvalidInput(
                "the form has no field `file`: send the CSV as that", fields=seen[:20], expected="file"
            )


def _events(decoder: MultipartDecoder, request: Request) -> Iterator[object]:
    while True:
        try:
            event = decoder.next_event()
        except ValueError as exc:
            raise InvalidInput(f"the multipart form cannot be read, or is cut off: {exc}") from exc
        if isinstance(event, NeedData):
            # None says that there is no more; without its closing boundary the form is then not valid.
            decoder.receive_data(read_body(request, _READ_BYTES) or None)
            continue
        yield event
        if isinstance(event, Epilogue):
            return


class _Pieces:
    """Pieces of bytes as something to read so many bytes from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = bytes(piece)
        out, self._left = self._left[:size], self._left[size:]
        return out
