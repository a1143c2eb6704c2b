"""Rows of one key become one, field by field, the newest version that has a value; held against a model."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.keys import message_id
from shared.messages import Origin, decode_message, encode_message
from shared.records import TIMESTAMP, VERSION, collapse, concat, sort_resolve
from shared.store.numbers import from_steps, to_steps
from shared.store.parquet import ROW_GROUP_ROWS, encode_parquet
from shared.store.read import slice_of_gpu
from shared.store.segment import decode, encode, encode_within

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


def versions(messages):
    """Resolve with one Python object per row: per key and field, the version it is of and the value."""
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
    return out


def model(messages):
    return {key: {n: v for n, (_, v) in fields.items()} for key, fields in versions(messages).items()}


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


@settings(max_examples=300, deadline=None)
@given(MESSAGES, st.lists(st.integers(0, 5), max_size=8), st.booleans())
def test_folding_in_any_order_and_grouping_changes_nothing(messages, picks, twice):
    """Segments are folded with any others, whichever came first, some with a copy of themselves."""
    messages = list({(u, n): (u, n, rows) for u, n, rows in messages}.values())
    segments = [through_a_segment([as_message(*m)]) for m in messages]
    for pick in picks:
        one = segments.pop(pick % len(segments))
        other = segments.pop(pick % len(segments)) if segments and not twice else one
        segments.insert(0, through_a_segment([one, other]))
    assert as_dict(sort_resolve(concat(segments))) == model(messages)


def through_a_segment(tables):
    return decode(encode_parquet(collapse(concat(tables))))


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_what_is_left_are_the_newest_row_and_those_a_field_is_taken_from(messages):
    messages = list({(u, n): (u, n, rows) for u, n, rows in messages}.values())
    folded = collapse(concat([as_message(*m) for m in messages]))
    left = {
        (r["uuid"], r["timestamp"].second, UPLOADS.index(r["upload_id"]), r["number"])
        for r in folded.to_pylist()
    }
    assert len(left) == folded.num_rows
    wanted = set()
    for upload, number, rows in messages:
        wanted |= {(uuid, second, upload, number) for uuid, second, *_ in rows}
    newest = {}
    for row in wanted:
        newest[row[:2]] = max(newest.get(row[:2], row), row)
    needed = set(newest.values())
    for (uuid, second), fields in versions(messages).items():
        needed |= {(uuid, second, upload, number) for (upload, number, _), _ in fields.values()}
    assert left == needed


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_the_messages_of_a_settled_upload_come_together(messages):
    messages = list({(u, n): (u, n, rows) for u, n, rows in messages}.values())
    folded = collapse(concat([as_message(*m) for m in messages]), settled=UPLOADS)
    assert as_dict(sort_resolve(folded)) == model(messages)
    keys = [(r["uuid"], r["timestamp"], r["upload_id"]) for r in folded.to_pylist()]
    assert len(set(keys)) == len(keys)


def test_a_message_between_two_that_were_folded_keeps_its_place():
    first, second, third = (
        as_message(0, n, [("x", 0, m, k, None)])
        for n, m, k in [(1, 1.5, None), (2, 2.25, None), (3, None, 0.0)]
    )
    folded = collapse(concat([first, third]))
    assert sort_resolve(concat([folded, second])).select(["m", "n"]).to_pylist() == [{"m": 2.25, "n": 0.0}]


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
    back = decode(encode_parquet(table))
    assert back.column("m").to_pylist() == values if "m" in back.column_names else set(values) == {None}


def test_few_records_are_an_arrow_stream_many_are_parquet_and_too_many_are_none():
    rows = [("u", i, i / 7, None, None) for i in range(5000)]
    few, many = (collapse(as_message(0, 0, part)) for part in (rows[:100], rows))
    assert (encode(few)[:4], encode(many)[:4]) == (b"GTA1", b"PAR1")
    assert encode_within(many, len(encode(many))) == encode(many)
    assert encode_within(many, 10) is None
    for table in (few, many):
        # Parquet leaves out what nobody reports.
        plain = decode(encode(table)).select(["uuid", "timestamp", "m", *VERSION])
        assert plain.equals(decode(encode_parquet(table)).select(plain.column_names))


@given(st.lists(st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)), min_size=1), st.integers(1, 5))
def test_steps_give_back_the_very_same_integers(values, every):
    array = pa.array(values, pa.int32())
    steps = to_steps(array, every)
    runs = [from_steps(steps[i : i + every]) for i in range(0, len(values), every)]
    assert pa.concat_arrays(runs).to_pylist() == values


def test_a_message_names_its_upload():
    assert message_id(UPLOADS[0], 12) == f"{UPLOADS[0]}-000012"


@pytest.mark.parametrize("uuid", ["GPU-0000", "GPU-0007", "GPU-0031", "GPU-none"])
def test_one_gpu_is_read_whole_from_a_part_of_a_large_segment(uuid):
    rows = [(f"GPU-{i % 32:04d}", i // 32, float(i), None, None) for i in range(3 * ROW_GROUP_ROWS)]
    messages = [as_message(0, n, rows[n::2]) for n in range(2)]
    payload = encode(collapse(concat(messages)))
    part, whole = decode(payload, uuid), decode(payload)
    assert part.num_rows < whole.num_rows
    assert slice_of_gpu(part, uuid).to_pylist() == slice_of_gpu(whole, uuid).to_pylist()
    assert slice_of_gpu(part, uuid).num_rows == sum(r[0] == uuid for r in rows)


def test_what_was_resolved_can_be_put_together_with_other_words():
    """A label that one key never has leaves a null; Arrow looks up what stands under it."""
    parts = [
        sort_resolve(as_message(0, 0, [("x", 0, 1.0, None, pod), ("y", 0, 1.0, None, None), ("y", 0, 2.0, None, None)]))
        for pod in ("a", "b")
    ]  # fmt: skip
    assert concat(parts).column("pod").to_pylist() == ["a", None, "b", None]
