"""Messages whose rows bring their versions along, and what is refused of them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from shared.errors import Corrupt
from shared.ipc import decode_table, encode_table
from shared.messages import Origin, decode_message, encode_message
from shared.records import TEXT, TIMESTAMP, VERSION

ORIGIN = Origin(upload_id="00000000000f-ffffffffffff", received_ms=15, cluster="here")


def table_of(**other):
    columns = {
        "uuid": pa.array(["x", "y"]).dictionary_encode().cast(TEXT),
        "received_at": pa.array([1, 2], pa.int64()),
        "timestamp": pa.array([1000, 2000], TIMESTAMP),
        "upload_id": pa.array(["00000000000a-aaaaaaaaaaaa", "00000000000b-bbbbbbbbbbbb"])
        .dictionary_encode()
        .cast(TEXT),
        "number": pa.array([3, 4], pa.int32()),
        "power_draw": pa.array([1.5, None], pa.float64()),
        **other,
    }
    return pa.table({name: values for name, values in columns.items() if values is not None})


def test_rows_keep_the_versions_they_bring():
    table = decode_message(encode_message(table_of(), ORIGIN, 7))
    assert table.select(list(VERSION)).to_pylist() == [
        {"received_at": 1, "upload_id": "00000000000a-aaaaaaaaaaaa", "number": 3},
        {"received_at": 2, "upload_id": "00000000000b-bbbbbbbbbbbb", "number": 4},
    ]
    assert table.column("cluster").to_pylist() == ["here", "here"]
    assert table.column_names[-3:] == list(VERSION)


def test_only_such_a_message_needs_a_newer_reader():
    plain = table_of(received_at=None, upload_id=None, number=None)
    for table, version in ((plain, b"1"), (table_of(), b"2")):
        written = decode_table(encode_message(table, ORIGIN, 7), 10**6)
        assert written.schema.metadata[b"schema_version"] == version


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("received_at", pa.array([1, None], pa.int64())),
        ("received_at", pa.array([1, -1], pa.int64())),
        ("received_at", pa.array([1, 7_258_118_400_000], pa.int64())),
        ("received_at", pa.array([1.0, 2.0])),
        ("number", pa.array([1, -1], pa.int32())),
        ("number", pa.array([1, 2], pa.int64())),
        ("upload_id", pa.array(["00000000000a-aaaaaaaaaaaa", "../x"]).dictionary_encode().cast(TEXT)),
        ("upload_id", pa.array(["00000000000a-aaaaaaaaaaaa", None]).dictionary_encode().cast(TEXT)),
        (
            "upload_id",
            pa.DictionaryArray.from_arrays(
                pa.array([0, 1], pa.int32()), pa.array(["00000000000a-aaaaaaaaaaaa", None])
            ),
        ),
    ],
)
def test_a_version_that_is_none_is_corrupt(column, values):
    with pytest.raises(Corrupt, match=column):
        decode_message(encode_message(table_of(**{column: values}), ORIGIN, 7))


def test_a_version_that_lacks_a_column_is_corrupt():
    payload = encode_message(table_of(), ORIGIN, 7)
    table = decode_table(payload, 10**6).drop_columns(["number"])
    with pytest.raises(Corrupt, match="number"):
        decode_message(encode_table(table))
