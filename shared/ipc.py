"""Tables as bytes: one Arrow IPC stream, compressed as a whole.

Arrow can compress each buffer by itself, but then makes a zstd context for every one of them: of a hundred
rows that takes ten times longer, and more bytes.
"""

from __future__ import annotations

import pyarrow as pa

from shared.errors import Corrupt

#: What such bytes begin with; the last letter is the version.
MAGIC = b"GTA1"
_HEAD = len(MAGIC) + 4
_ZSTD = pa.Codec("zstd", compression_level=1)
_OPTIONS = pa.ipc.IpcWriteOptions(use_threads=False)


class NewerForm(Corrupt):
    """These bytes are of a newer version than this reader."""


def encode_table(table: pa.Table) -> bytes:
    """Write a table, and the metadata of its schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    plain = sink.getvalue()
    return b"".join((MAGIC, len(plain).to_bytes(4, "big"), _ZSTD.compress(plain, asbytes=True)))


def decode_table(payload: bytes, limit_bytes: int) -> pa.Table:
    """Read a table of at most so many bytes.

    Raises:
        NewerForm: Written by a newer version.
        Corrupt: No table, or a larger one.
    """
    if payload[: len(MAGIC)] != MAGIC:
        if payload[: len(MAGIC) - 1] == MAGIC[:-1]:
            raise NewerForm
        raise Corrupt("these bytes are no table")
    size = int.from_bytes(payload[len(MAGIC) : _HEAD], "big")
    if size > limit_bytes:
        raise Corrupt(f"a table of {size} bytes, at most {limit_bytes} are taken")
    try:
        plain = _ZSTD.decompress(memoryview(payload)[_HEAD:], size)
        with pa.ipc.open_stream(plain) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise Corrupt(f"a table cannot be decoded: {exc}") from exc
