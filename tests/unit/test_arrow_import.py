"""Arrow streams from outside: whatever the bytes are, they are rows or a clear refusal."""

from __future__ import annotations

import io
import struct

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.upload.arrow_rows import iter_rows
from functions.upload.arrow_stream import MAX_BODY_BYTES, CheckedStreams, parse_header
from shared.errors import InvalidInput, LimitExceeded
from shared.messages import Origin, decode_message, encode_message
from shared.records import KEY, VERSION

UPLOADS = [f"00000000000{c}-{c * 12}" for c in "abc"]
ROW = st.fixed_dictionaries({
    "uuid": st.text(st.characters(codec="utf-8"), min_size=1, max_size=5),
    "timestamp": st.integers(0, 7_258_118_399_999),
    "received_at": st.integers(0, 7_258_118_399_999),
    "upload_id": st.sampled_from(UPLOADS),
    "number": st.integers(0, 2**31 - 1),
    "power_draw": st.none() | st.floats(0, 1e6),
    "zeta": st.none() | st.floats(-1e300, 1e300),
    "pod": st.none() | st.sampled_from(["a", "b", "c"]),
})  # fmt: skip
TYPES = {
    "uuid": st.sampled_from([pa.string(), pa.large_string()]),
    "timestamp": st.sampled_from([pa.timestamp(u, z) for u in ("ms", "us") for z in ("UTC", "Asia/Tokyo", None)]),
    "received_at": st.sampled_from([pa.int64(), pa.uint64()]),
    "upload_id": st.sampled_from([pa.string(), pa.dictionary(pa.int8(), pa.string())]),
    "number": st.sampled_from([pa.int32(), pa.int64()]),
    "power_draw": st.just(pa.float64()),
    "zeta": st.just(pa.float64()),
    "pod": st.sampled_from([pa.string(), pa.dictionary(pa.int32(), pa.large_string())]),
}  # fmt: skip


def column(values, type_):
    if pa.types.is_dictionary(type_):
        return pa.array(values, type_.value_type).dictionary_encode().cast(type_)
    if pa.types.is_timestamp(type_):
        return (
            pa.array(values, pa.timestamp("ms")).cast(pa.timestamp(type_.unit)).cast(pa.int64()).cast(type_)
        )
    return pa.array(values, type_)


def stream(table, chunk=None, **how):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, **how) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return bytes(sink.getvalue())


def read(data):
    return [table for table, _ in iter_rows(io.BytesIO(data).read)]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(ROW, min_size=1, max_size=8), min_size=1, max_size=3),
    st.fixed_dictionaries(TYPES),
    st.integers(1, 9),
)
def test_rows_are_what_was_sent_in_whatever_types_and_pieces(streams, types, size):
    data = b"".join(
        stream(pa.table({n: column([r[n] for r in rows], t) for n, t in types.items()}), size)
        for rows in streams
    )
    pieces = io.BytesIO(data)
    tables = [t for t, _ in iter_rows(lambda wanted: pieces.read(min(wanted, 7)))]
    out = []
    for table in tables:
        message = encode_message(table, Origin(upload_id=UPLOADS[0], received_ms=1, cluster="c"), 0)
        out += decode_message(message).to_pylist()
    sent = [row for rows in streams for row in rows]
    assert len(out) == len(sent)
    for got, row in zip(out, sent, strict=True):
        ms = round(got.pop("timestamp").timestamp() * 1000)
        assert {**got, "timestamp": ms, "cluster": None} == {
            **{n: None for n in ("pod", "zeta", "power_draw") if n in got}, **{k: v for k, v in row.items() if v is not None or k in got}, "cluster": None,
        }  # fmt: skip


GOOD = stream(
    pa.table({
        "uuid": pa.array(["x", "y", "x"]).dictionary_encode(),
        "timestamp": pa.array([1, 2, 3], pa.timestamp("ms", "UTC")),
        "received_at": pa.array([1, 2, 3], pa.int64()),
        "upload_id": pa.array(UPLOADS),
        "number": pa.array([1, 2, 3], pa.int32()),
        "power_draw": pa.array([1.0, None, 3.0]),
    })
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_damaged_bytes_are_rows_or_a_refusal(data):
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        width = data.draw(st.sampled_from([1, 2, 4, 8]))
        value = data.draw(
            st.sampled_from([0, 1, 2, 127, 128, 255, -1, -8, 2**31 - 1, 2**62]) | st.integers(0, 255)
        )
        damaged[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged
    try:
        for table in read(bytes(damaged)):
            table.validate(full=True)
            assert set(table.column_names) >= {*KEY, *VERSION}
    except (InvalidInput, LimitExceeded):
        pass


@given(st.binary(max_size=300))
def test_any_bytes_are_no_crash(data):
    for prefix in (b"", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x40\x00\x00\x00"):
        try:
            read(prefix + data)
        except (InvalidInput, LimitExceeded):
            continue


def test_a_bomb_is_not_unpacked():
    zeros = pa.table({"x": pa.array([0] * 100_000)})
    for codec in ("zstd", "lz4"):
        data = stream(zeros, options=pa.ipc.IpcWriteOptions(compression=codec))
        with pytest.raises(InvalidInput, match="compressed"):
            CheckedStreams(io.BytesIO(data).read).readall()


def test_dictionaries_that_grow_are_refused():
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    schema = pa.schema([("x", pa.dictionary(pa.int32(), pa.string()))])
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for words in (["a"], ["a", "b"]):
            array = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(words))
            writer.write_batch(pa.record_batch([array], schema=schema))
    with pytest.raises(InvalidInput, match="deltas"):
        CheckedStreams(io.BytesIO(bytes(sink.getvalue())).read).readall()


def test_a_body_larger_than_may_be_is_refused_before_it_is_read():
    body = pa.py_buffer(bytes(MAX_BODY_BYTES + 64))
    array = pa.Array.from_buffers(pa.int8(), MAX_BODY_BYTES + 64, [None, body])
    data = io.BytesIO(stream(pa.table({"x": array})))
    with pytest.raises(LimitExceeded, match="smaller batches"):
        CheckedStreams(data.read).readall()
    assert data.tell() < 10_000


@pytest.mark.parametrize(
    "metadata", [b"", b"\xff" * 40, struct.pack("<I", 2**31), b"\4\0\0\0\xff\xff\xff\x7f"]
)
def test_metadata_that_are_none_are_a_value_error(metadata):
    with pytest.raises(ValueError, match="message"):
        parse_header(metadata)
