"""POST /api/v1/import and /api/v1/import/uploads: what is taken, and what is refused in which words."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
UPLOAD = "00000000000a-aaaaaaaaaaaa"


def table_of(**other):
    columns = {
        "uuid": pa.array(["GPU-i1", "GPU-i2"]),
        "timestamp": pa.array([1000, 2000], pa.timestamp("ms", "UTC")),
        "received_at": pa.array([5, 6], pa.int64()),
        "upload_id": pa.array([UPLOAD] * 2),
        "number": pa.array([0, 1], pa.int32()),
        "power_draw": pa.array([1.0, 2.0]),
        **other,
    }
    return pa.table({name: values for name, values in columns.items() if values is not None})


def stream(table, **how):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, **how) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def post(pipeline, body, headers=ARROW, query=""):
    status, answer, _ = pipeline.upload.call("POST", f"/api/v1/import{query}", body=body, headers=headers)
    return status, answer


def test_streams_of_different_columns_come_one_after_the_other(pipeline):
    body = stream(table_of()) + stream(table_of(zeta=pa.array([7, None], pa.int8()), power_draw=None))
    status, answer = post(pipeline, body, query="?filename=a.parquet")
    assert status == 200, answer
    report = answer["data"]
    expected = {"filename": "a.parquet", "rows": 4, "accepted": 4, "gpus": 2, "messages": 2, "imported": True}
    assert report.items() >= expected.items()
    pipeline.collect.call("POST", "/collect")
    [record] = pipeline.query.get("/api/v1/gpus/GPU-i1/telemetry")[1]["data"]
    assert (record["power_draw"], record["zeta"], record["timestamp"]) == (1.0, 7.0, "1970-01-01T00:00:01Z")
    shown = pipeline.upload.get(f"/api/v1/uploads/{report['upload_id']}")[1]["data"]
    assert (shown["state"], shown["imported"]) == ("stored", True)


def test_garbage_becomes_null_as_it_does_everywhere(pipeline):
    values = pa.array([float("nan"), -5.0])
    status, answer = post(pipeline, stream(table_of(power_draw=values, gpu_utilization=pa.array([50, 101]))))
    assert (status, answer["data"]["values_nulled"]) == (200, 2)
    assert [(e["line"], e["column"], e["value"]) for e in answer["data"]["errors"]] == [
        (2, "power_draw", "-5"),
        (2, "gpu_utilization", "101"),
    ]


@pytest.mark.parametrize(
    ("other", "column", "says"),
    [
        ({"uuid": None}, "uuid", "is missing"),
        ({"number": None}, "number", "gpu-telemetry export"),
        ({"uuid": pa.array([1, 2])}, "uuid", "expected text"),
        ({"uuid": pa.array(["a", None])}, "uuid", "without a value"),
        ({"uuid": pa.array(["a", ""])}, "uuid", "empty"),
        ({"uuid": pa.array(["a", "b" * 257])}, "uuid", "256 characters"),
        ({"timestamp": pa.array([1, 2])}, "timestamp", "expected timestamp[ms, UTC]"),
        ({"timestamp": pa.array([1, 2], pa.timestamp("us", "UTC"))}, "timestamp", "would lose data"),
        ({"timestamp": pa.array([None, 2], pa.timestamp("ms", "UTC"))}, "timestamp", "without a value"),
        ({"timestamp": pa.array([-1, 2], pa.timestamp("ms", "UTC"))}, "timestamp", "1970 to 2199"),
        ({"received_at": pa.array([1.5, 2.0])}, "received_at", "expected int64"),
        ({"received_at": pa.array([-1, 2])}, "received_at", "epoch milliseconds"),
        ({"received_at": pa.array([1, 2**63], pa.uint64())}, "received_at", "holds what it cannot"),
        ({"upload_id": pa.array(["x", UPLOAD])}, "upload_id", "not an upload's id"),
        ({"upload_id": pa.array([None, UPLOAD])}, "upload_id", "expected a value in every row"),
        ({"number": pa.array([1, 2**40])}, "number", "holds what it cannot"),
        ({"pod": pa.array([1, 2])}, "pod", "expected text"),
        ({"power_draw": pa.array(["1", "2"])}, "power_draw", "expected double"),
        ({"nested": pa.array([[1], [2]])}, "nested", "expected double"),
        ({"Foo": pa.array([1, 2])}, "Foo", "cannot be a metric"),
        ({"power_usage": pa.array([1, 2])}, "power_usage", "another name of power_draw"),
    ],
)
def test_a_wrong_column_is_named(pipeline, other, column, says):
    table = table_of(**other).replace_schema_metadata({"file": "b.parquet"})
    status, answer = post(pipeline, stream(table))
    assert (status, answer["error"]["code"]) == (400, "invalid_input")
    assert answer["error"]["details"]["column"] == column
    assert says in answer["error"]["message"]
    assert answer["error"]["message"].startswith(f"b.parquet: column '{column}'")


def test_a_column_that_is_there_twice_is_refused(pipeline):
    table = table_of()
    twice = pa.Table.from_arrays(
        [*table.columns, table.column("power_draw")], [*table.column_names, "power_draw"]
    )
    status, answer = post(pipeline, stream(twice))
    assert (status, "there twice" in answer["error"]["message"]) == (400, True)


GOOD = stream(table_of())


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 422, "no rows"),
        (stream(table_of().slice(0, 0)), 422, "no rows"),
        (b"timestamp,uuid\n", 400, "not an Arrow IPC stream"),
        (GOOD[:-40], 400, "cut off"),
        (GOOD[:11], 400, "cut off"),
        (GOOD + b"more", 400, "cut off"),
        (stream(table_of(), options=pa.ipc.IpcWriteOptions(compression="zstd")), 400, "compression=None"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f" + GOOD, 413, "bytes of metadata"),
        (stream(table_of().take([0] * 2_000_000)), 413, "smaller batches"),
    ],
)
def test_what_is_no_stream_is_refused(pipeline, body, status, says):
    answered, answer = post(pipeline, body)
    assert answered == status
    assert says in answer["error"]["message"]


def test_other_content_types_are_refused(pipeline):
    for kind in ("text/csv", "application/json", "multipart/form-data; boundary=x"):
        status, answer = post(pipeline, GOOD, {"Content-Type": kind})
        assert (status, "arrow.stream" in answer["error"]["message"]) == (415, True)


def test_a_refusal_can_be_read_also_while_much_is_still_being_sent(pipeline):
    bad = stream(table_of(Power=pa.array([1, 2])))
    pieces = iter([bad, *[bytes(1024 * 1024)] * 200])
    status, answer = post(pipeline, pieces)
    assert (status, answer["error"]["details"]["column"]) == (400, "Power")


def record(**other):
    return {"upload_id": UPLOAD, "received_at": 5, "filename": "a.csv", "accepted": 1, "rejected": 0, **other}


def post_records(pipeline, *records):
    body = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in records).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    return pipeline.upload.call("POST", "/api/v1/import/uploads", body=body, headers=headers)[:2]


def test_records_of_uploads_are_put_once_and_never_over_others(pipeline):
    other = UPLOAD.replace("a-", "b-")
    assert post_records(pipeline, record())[1]["data"] == {"put": 1, "present": 0}
    again = post_records(pipeline, record(filename="b.csv"), record(upload_id=other))
    assert again == (200, {"success": True, "data": {"put": 1, "present": 1}})
    shown = pipeline.upload.get(f"/api/v1/uploads/{UPLOAD}")[1]["data"]
    assert (shown["filename"], shown["imported"]) == ("a.csv", True)
    listed = pipeline.upload.get("/api/v1/uploads")[1]["data"]
    assert [u["upload_id"] for u in listed][-2:] == [other, UPLOAD]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ("[" * 100_000, "not JSON"),
        (record(upload_id="../queue"), "upload_id"),
        (record(upload_id=None), "upload_id"),
        (record(received_at="today"), "received_at"),
        (record(received_at=10**15), "received_at"),
        (record(accepted=-1), "accepted"),
        (record(rows="many"), "rows"),
        (record(filename=7), "filename"),
        (record(errors=["x"]), "errors"),
        (record(warnings=[{}]), "warnings"),
    ],
)
def test_records_that_are_none_are_refused_with_their_line(pipeline, bad, says):
    status, answer = post_records(pipeline, record(upload_id="00000000000c-cccccccccccc"), bad)
    assert (status, answer["error"]["details"]["line"]) == (400, 2)
    assert says in answer["error"]["message"]
    # Nothing is put before all were looked at.
    assert pipeline.upload.get("/api/v1/uploads/00000000000c-cccccccccccc")[0] == 404


def test_too_many_records_are_413(pipeline):
    status, _ = post_records(pipeline, record(note="x" * 600_000))
    assert status == 413
    assert post_records(pipeline, "")[0] == 422
