"""What waits for a socket, what it wants, and what is said to it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from functions.query.live import outbox as module
from functions.query.live.outbox import Batch, Missed, Outbox
from functions.query.live.protocol import parse_message, read_subscription, records
from functions.query.live.subscription import Subscription
from shared.errors import InvalidInput
from shared.records import TIMESTAMP


def table(**columns):
    count = len(next(iter(columns.values())))
    return pa.table({
        "timestamp": pa.array([1_700_000_000_000] * count, TIMESTAMP),
        **{
            name: pa.array(values, pa.string()).dictionary_encode() if name in ("uuid", "hostname", "modelname") else values
            for name, values in columns.items()
        },
    })  # fmt: skip


RECORDS = table(
    uuid=["GPU-1", "GPU-2", "GPU-3", "GPU-4"],
    hostname=["a.b", "axb", None, "c"],
    power_draw=pa.array([1.0, None, 3.0, None]),
    temperature=pa.array([None, 2.0, None, None], pa.float64()),
)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [1, 2, 3, 4]),
        ({"gpus": ("GPU-2", "GPU-9")}, [2]),
        ({"gpus": ("GPU-[23]",)}, []),
        ({"hosts": ("a.*",)}, [1]),
        ({"hosts": ("a*", "c")}, [1, 2, 4]),
        ({"hosts": ("*",)}, [1, 2, 4]),
        ({"models": ("H100",)}, []),
        ({"gpus": ("GPU-*",), "hosts": ("c",)}, [4]),
        ({"columns": ("uuid", "power_draw")}, [1, 3]),
        ({"columns": ("uuid", "power_draw", "temperature")}, [1, 2, 3]),
        ({"columns": ("uuid", "sm_active")}, []),
        ({"columns": ("uuid", "hostname")}, [1, 2, 3, 4]),
    ],
)
def test_records_that_are_wanted(wanted, numbers):
    found = Subscription(**wanted).select(RECORDS)
    assert found.column("uuid").to_pylist() == [f"GPU-{n}" for n in numbers]


def batch(rows, before=1):
    return Batch(table(uuid=["GPU-1"] * rows, power_draw=[1.0] * rows), before, before + 1)


@pytest.fixture
def outbox(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", batch(10).records.nbytes)
    return Outbox(lambda: None)


def taken(outbox):
    return [item if isinstance(item, Missed) else item.records.num_rows for item in iter(outbox.take, None)]


def test_what_fits_is_given_in_order(outbox):
    outbox.offer(batch(5))
    outbox.offer(batch(0))
    outbox.offer(batch(2))
    assert taken(outbox) == [5, 2]


def test_what_is_too_much_is_counted_until_the_reader_has_caught_up(outbox):
    for before, rows in enumerate([10, 1, 2, 3]):
        outbox.offer(batch(rows, before))
    assert outbox.take().records.num_rows == 10
    assert outbox.take() == Missed("slow", 6, 1, 4)
    outbox.offer(batch(4, 4))
    assert taken(outbox) == [4]


def test_what_comes_before_that_is_left_out_too(outbox):
    outbox.offer(batch(10))
    outbox.offer(batch(9))
    outbox.take()
    outbox.offer(batch(1, 2))
    assert taken(outbox) == [Missed("slow", 10, 1, 3)]


def test_one_batch_may_be_larger_than_the_bound(outbox):
    outbox.offer(batch(1000))
    outbox.offer(batch(1))
    assert taken(outbox) == [1000, Missed("slow", 1, 1, 2)]


def test_a_message_has_the_fields_that_are_wanted():
    message = json.loads(records(RECORDS.slice(1, 2), ("uuid", "power_draw"), 255))
    assert message["cursor"] == "ff"
    assert [(r["uuid"], r["power_draw"]) for r in message["data"]] == [("GPU-2", None), ("GPU-3", 3.0)]


def test_fields_go_by_any_of_their_names():
    message = parse_message('{"type":"subscribe","fields":["DCGM_FI_DEV_GPU_UTIL","odd"]}')
    columns = read_subscription(message, lambda: {"odd"}).columns
    assert columns[-2:] == ("gpu_utilization", "odd")
    with pytest.raises(InvalidInput, match="there is no field 'odd'"):
        read_subscription(message, tuple)


@pytest.mark.parametrize("text", [b"\xff\xfe", "", "[]", "null", '"subscribe"', "{" * 100_000])
def test_what_is_no_message_is_an_error(text):
    with pytest.raises(InvalidInput):
        parse_message(text)
