"""Arrow IPC streams from outside, one after the other: what passes is bounded and uncompressed.

Arrow trusts what a message says of its own size, and a kilobyte of zstd can stand for gigabytes. So the bytes
are looked at before Arrow gets to see them: the few numbers of each message that decide about memory. The
layout is that of Apache Arrow's format/Message.fbs, encapsulated as its columnar format says under "IPC".
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

from shared.errors import InvalidInput, LimitExceeded

#: A schema of two thousand columns takes about 400 KB.
MAX_METADATA_BYTES = 4 * 1024 * 1024
#: A record batch, or a dictionary: what is in memory at a time.
MAX_BODY_BYTES = 32 * 1024 * 1024

_CONTINUATION = b"\xff\xff\xff\xff"
_DICTIONARY, _RECORDS = 2, 3

Read = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Header:
    """What a message says of itself."""

    kind: int
    body_bytes: int
    compressed: bool
    is_delta: bool


class _Table:
    """A table of a flatbuffer: its fields by their place in the schema."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - _number(data, at, "<i")
        self._size = _number(data, self._vtable, "<H")

    def _place(self, field: int) -> int | None:
        """Find where a field stands; None where it is left out."""
        entry = 4 + 2 * field
        offset = _number(self._data, self._vtable + entry, "<H") if entry + 2 <= self._size else 0
        return self._at + offset if offset else None

    def has(self, field: int) -> bool:
        return self._place(field) is not None

    def number(self, field: int, form: str) -> int:
        place = self._place(field)
        return 0 if place is None else _number(self._data, place, form)

    def table(self, field: int) -> _Table:
        place = self._place(field)
        if place is None:
            raise ValueError("a message without a header")
        return _Table(self._data, place + _number(self._data, place, "<I"))


def _number(data: bytes, at: int, form: str) -> int:
    if at < 0:
        raise ValueError("a message that points before its beginning")
    return int(struct.unpack_from(form, data, at)[0])


def parse_header(metadata: bytes) -> Header:
    """Read what decides about memory from a message's metadata.

    Raises:
        ValueError: Not the metadata of a message.
    """
    try:
        message = _Table(metadata, _number(metadata, 0, "<I"))
        kind, body = message.number(1, "<B"), message.number(3, "<q")
        is_delta = compressed = False
        if kind in (_DICTIONARY, _RECORDS):
            batch = message.table(2)
            if kind == _DICTIONARY:
                is_delta = bool(batch.number(2, "<B"))
                batch = batch.table(1)
            compressed = batch.has(3)
    except struct.error as exc:
        raise ValueError("a message that is cut off") from exc
    return Header(kind, body, compressed, is_delta)


class CheckedStreams(io.RawIOBase):
    """A file for Arrow to read streams from; open one after the other until it is `exhausted`.

    Raises, while it is read:
        InvalidInput: Not Arrow's stream format, or in a form that is not taken here.
        LimitExceeded: A message is larger than one may be.
    """

    def __init__(self, read: Read) -> None:
        super().__init__()
        self._source = read
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes of messages that were looked at, fewer only at the end of a message."""
        if not self._left:
            self._left = memoryview(self._next_message())
        size = len(self._left) if size < 0 else size
        out, self._left = self._left[:size], self._left[size:]
        return bytes(out)

    def exhausted(self) -> bool:
        """Tell whether nothing follows the stream that was read last."""
        if not self._left:
            self._left = memoryview(self._next_message())
        return not self._left

    def _next_message(self) -> bytes:
        head = self._exactly(8, or_nothing=True)
        if not head:
            return b""
        if head[:4] != _CONTINUATION:
            raise InvalidInput("the body is not an Arrow IPC stream (application/vnd.apache.arrow.stream)")
        size = struct.unpack("<i", head[4:])[0]
        if size == 0:
            return head
        if not 0 < size <= MAX_METADATA_BYTES:
            raise LimitExceeded(f"a message of the stream has {size} bytes of metadata")
        metadata = self._exactly(size)
        try:
            header = parse_header(metadata)
        except ValueError as exc:
            raise InvalidInput(f"the Arrow IPC stream cannot be read: {exc}") from exc
        _check(header)
        return head + metadata + self._exactly(header.body_bytes)

    def _exactly(self, size: int, *, or_nothing: bool = False) -> bytes:
        pieces, missing = [], size
        while missing:
            piece = self._source(missing)
            if not piece:
                if or_nothing and missing == size:
                    return b""
                raise InvalidInput("the Arrow IPC stream is cut off in the middle of a message")
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check(header: Header) -> None:
    if header.compressed:
        raise InvalidInput(
            "the record batches are compressed: write them with IpcWriteOptions(compression=None)"
        )
    if header.is_delta:
        raise InvalidInput("the stream has dictionary deltas: write whole dictionaries")
    if not 0 <= header.body_bytes <= MAX_BODY_BYTES:
        raise LimitExceeded(
            f"a record batch or dictionary has {header.body_bytes} bytes: "
            f"write smaller batches, of at most {MAX_BODY_BYTES} bytes",
            max_body_bytes=MAX_BODY_BYTES,
        )
