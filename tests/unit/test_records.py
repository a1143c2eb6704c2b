"""Rows of one key become one, field by field, the newest version that has a value; held against a model."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.keys import message_id
from shared.messages import Origin, decode_message, encode_message
from shared.records import TIMESTAMP, collapse, concat, sort_resolve
from shared.store.read import slice_of_gpu
from shared.store.segment import ROW_GROUP_ROWS, decode, encode, encode_within

UPLOADS = ["00000000000a-aaaaaaaaaaaa", "00000000000b-bbbbbbbbbbbb", "00000000000c-cccccccccccc"]
VALUE = st.one_of(st.none(), st.sampled_from([0.0, 1.5, 2.25, 1e-7, 123456789.0, 1 / 3]))
ROW = st.tuples(st.sampled_from("xyz"), st.integers(0, 3), VALUE, VALUE, st.sampled_from(["a", "b", None]))
MESSAGES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.lists(ROW, min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)


def table_of(rows):
    return pa.table({
        "uuid": pa.array([r[0] for r in rows]).dictionary_encode(),
        "timestamp": pa.array([r[1] * 1000 for r in rows], TIMESTAMP),
        "m": pa.array([r[2] for r in rows], pa.float64()),
        "n": pa.array([r[3] for r in rows], pa.float64()),
        "pod": pa.array([r[4] for r in rows], pa.string()).dictionary_encode(),
    })  # fmt: skip


def as_message(upload, number, rows):
    origin = Origin(upload_id=UPLOADS[upload], received_ms=10 + upload, cluster="c")
    return decode_message(encode_message(table_of(rows), origin, number))


def model(messages):
    """Resolve with one Python object per row."""
    out = {}
    for upload, number, rows in messages:
        for line, (uuid, second, *values) in enumerate(rows):
            for name, value in zip(("m", "n", "pod"), values, strict=True):
                if value is not None:
                    key, version = (uuid, second), (upload, number, line)
                    best = out.setdefault(key, {}).get(name)
                    if best is None or version > best[0]:
                        out[key][name] = (version, value)
            out.setdefault((uuid, second), {})
    return {key: {n: v for n, (_, v) in fields.items()} for key, fields in out.items()}


def as_dict(table):
    assert table.select(["uuid", "timestamp"]).to_pylist() == sorted(
        table.select(["uuid", "timestamp"]).to_pylist(), key=lambda r: (r["uuid"], r["timestamp"])
    )
    return {
        (r["uuid"], r["timestamp"].second): {n: r[n] for n in ("m", "n", "pod") if r.get(n) is not None}
        for r in table.to_pylist()
    }


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_resolving_is_what_the_model_says(messages):
    messages = list({(u, n): (u, n, rows) for u, n, rows in messages}.values())
    tables = [as_message(*m) for m in messages]
    assert as_dict(sort_resolve(concat(tables))) == model(messages)


@settings(max_examples=200, deadline=None)
@given(MESSAGES, st.integers(1, 3))
def test_segments_between_change_nothing(messages, group):
    """Collapsed into segments in any grouping, then resolved: the same answer."""
    messages = sorted({(u, n): (u, n, rows) for u, n, rows in messages}.values(), key=lambda m: m[:2])
    tables = [as_message(*m) for m in messages]
    segments = [decode(encode(collapse(concat(tables[i : i + group])))) for i in range(0, len(tables), group)]
    assert as_dict(sort_resolve(concat(segments))) == model(messages)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.floats(allow_nan=False), st.integers(-(2**31), 2**31).map(lambda i: i / 10)),
        min_size=1,
    )
)
def test_a_segment_gives_back_the_very_same_doubles(values):
    rows = [("u", i, v, None, None) for i, v in enumerate(values)]
    table = collapse(as_message(0, 0, rows))
    back = decode(encode(table))
    assert back.column("m").to_pylist() == values if "m" in back.column_names else set(values) == {None}


def test_a_segment_that_is_too_large_as_parquet_is_kept_as_arrow_or_not_at_all():
    table = collapse(as_message(0, 0, [("u", i, i / 7, None, None) for i in range(1000)]))
    parquet = len(encode(table))
    assert encode_within(table, parquet)[:4] == b"PAR1"
    assert encode_within(table, 10) is None


def test_a_message_names_its_upload():
    assert message_id(UPLOADS[0], 12) == f"{UPLOADS[0]}-000012"


@pytest.mark.parametrize("uuid", ["GPU-0000", "GPU-0007", "GPU-0031", "GPU-none"])
def test_one_gpu_is_read_whole_from_a_part_of_a_large_segment(uuid):
    rows = [(f"GPU-{i % 32:04d}", i // 32, float(i), None, None) for i in range(3 * ROW_GROUP_ROWS)]
    payload = encode(collapse(as_message(0, 0, rows)))
    part, whole = decode(payload, uuid), decode(payload)
    assert part.num_rows < whole.num_rows
    assert slice_of_gpu(part, uuid).to_pylist() == slice_of_gpu(whole, uuid).to_pylist()
    assert slice_of_gpu(part, uuid).num_rows == sum(r[0] == uuid for r in rows)
