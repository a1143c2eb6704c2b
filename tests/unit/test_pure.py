"""Decisions and parsers that do no I/O."""

from __future__ import annotations

import io
import json
import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.collect.dealer import GATHER_S, Dealer
from functions.collect.events import build_messages, parse_messages
from functions.collect.move import MAX_MOVE_BYTES, plan_moves
from functions.query.render import format_times, render_records, to_list
from shared.api.types import parse_time_ms
from shared.config import Settings, parse_bytes, parse_duration_s, read_settings
from shared.errors import BadConfig, Corrupt, InvalidInput
from shared.ingest.blocks import find_cut, iter_blocks
from shared.keys import (
    IndexKey,
    Keys,
    is_day,
    is_message_id,
    is_upload_id,
    message_id,
    new_upload_id,
    parse_message_id,
)
from shared.queue import ReadyMessage, parse_bell
from shared.queue.message import build_bell

DAY_MS = 86_400_000


def message(n, *, size=1000, attempts=0, received_ms=1_700_000_000_000, filed_day=""):
    upload = f"{received_ms:012x}-aaaaaaaaaaaa"
    return ReadyMessage(
        id=message_id(upload, n),
        bytes=size,
        rows=1,
        attempts=attempts,
        revision=n,
        filed_day=filed_day,
    )


# -- moves


def test_small_messages_move_together_up_to_the_limits():
    assert [len(m) for m in plan_moves([message(i) for i in range(70)])] == [32, 32, 6]
    large = [message(i, size=MAX_MOVE_BYTES // 2) for i in range(5)]
    assert [len(m) for m in plan_moves(large)] == [2, 2, 1]
    assert [len(m) for m in plan_moves([message(0, size=MAX_MOVE_BYTES * 2)])] == [1]


def test_an_attempted_message_moves_alone():
    moves = plan_moves([message(0), message(1, attempts=1), message(2), message(3)])
    assert [[m.revision for m in move] for move in moves] == [[0], [1], [2, 3]]


def test_a_move_stays_within_one_ingestion_day():
    first, second = 1_700_000_000_000, 1_700_000_000_000 + DAY_MS
    moves = plan_moves(
        [message(1, received_ms=second), message(0, received_ms=first), message(2, received_ms=second)]
    )
    assert [[m.revision for m in move] for move in moves] == [[0], [1, 2]]


def test_a_replayed_message_is_of_the_day_of_its_replay():
    old, replayed = message(0), message(1, filed_day="20240105")
    assert (old.day, replayed.day) == ("20231114", "20240105")
    assert [len(group) for group in plan_moves([old, replayed])] == [1, 1]
    dealer = Dealer()
    dealer.hear([old, replayed], now=0.0)
    assert dealer.deal(now=GATHER_S) == [old]
    assert parse_messages(build_messages([old, replayed])) == [old, replayed]
    assert parse_bell(build_bell([replayed]), 9) == [replayed]


@pytest.mark.parametrize("day", ["2024", "../01234", "2024010\u0665", 20240105, None])
def test_an_event_with_another_day_is_refused(day):
    data = build_messages([message(0)])
    data["messages"][0]["day"] = day
    with pytest.raises(InvalidInput):
        parse_messages(data)


# -- keys


@pytest.mark.parametrize("text", ["20240229", "19700101"])
def test_a_day_is_eight_digits_of_a_calendar(text):
    assert is_day(text)


@pytest.mark.parametrize(
    "text",
    [
        "20230229",
        "20241301",
        "2024-1-1",
        "2024W011",
        "2024010",
        "202401011",
        "\uff12\uff10\uff12\uff14\uff10\uff11\uff10\uff11",
        "",
        None,
        20240101,
    ],
)
def test_anything_else_is_no_day(text):
    assert not is_day(text)


def test_keys_are_read_back():
    keys = Keys("/telemetry")
    entry = IndexKey(day="20240115", level=0, min_ms=5, max_ms=1_700_000_000_000, segment="abc")
    assert keys.parse_index(keys.index(entry)) == entry
    with pytest.raises(Corrupt):
        keys.parse_index("/telemetry/store/index/nonsense")
    upload = new_upload_id(1_700_000_000_000)
    assert is_upload_id(upload)
    assert parse_message_id(message_id(upload, 7)) == (upload, 7)
    assert not is_upload_id("../../etc")
    assert not is_upload_id("")


def test_only_what_has_the_form_of_a_message_id_is_one():
    upload = new_upload_id(1_700_000_000_000)
    assert is_message_id(message_id(upload, 7))
    assert is_message_id(message_id(upload, 1_000_000))
    for text in ("", upload, f"{upload}-7", f"{upload}-", f"{upload}-00000a", f"{upload}-000007/x", None, 7):
        assert not is_message_id(text)
    assert not is_message_id(f"ffffffffffff-{'0' * 12}-000000")
    assert not is_message_id(f"{upload}-{'0' * 400}")
    assert not is_message_id(f"{upload}-\u0661\u0661\u0661\u0661\u0661\u0661")


# -- settings


def test_an_invalid_setting_is_refused_by_name():
    for name, value in [
        ("POLL_INTERVAL", "soon"),
        ("PORT", "99999"),
        ("ETCD_ENDPOINTS", "nonsense"),
        ("MESSAGE_QUEUE_PREFIX", "no-slash"),
        ("MAX_UPLOAD_SIZE", "many"),
        ("VISIBILITY_TIMEOUT", "5m"),
        ("LOG_LEVEL", "loud"),
        ("RETENTION", "1.5d"),
    ]:
        with pytest.raises(BadConfig, match=name):
            read_settings({name: value})


def test_settings_have_units_and_aliases():
    config = read_settings(
        {"HTTP_PORT": "9000", "MAX_UPLOAD_SIZE": "2GiB", "POLL_INTERVAL": "500ms", "CLUSTER_ID": ""}
    )
    assert (config.port, config.max_upload_size, config.poll_interval, config.cluster_id) == (
        9000,
        2**31,
        0.5,
        "default",
    )
    assert Settings().endpoints() == ["127.0.0.1:2379"]
    assert parse_bytes("1.5kB") == 1500
    assert parse_duration_s("7d") == 604800


# -- blocks


def test_a_block_is_cut_where_a_row_ends():
    assert find_cut(b"a,b\nc,d\ne") == 8
    assert find_cut(b'a,"x\ny') == 0 or find_cut(b'a,"x\ny') == 5  # nothing better: the splitter sorts it out
    assert find_cut(b'a,b\nc,"x\ny') == 4
    assert find_cut(b"no newline") == 0


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_blocks_put_together_are_the_file(size):
    data = b"".join(b"%d,some,cells\n" % i for i in range(100)) + b"last"
    blocks = list(iter_blocks(io.BytesIO(data).read, b"", 2, size))
    assert b"".join(b.data for b in blocks) == data
    line = 2
    for block in blocks:
        assert block.first_line == line
        line += block.lines
    assert line == 2 + 101


# -- times


def test_times_have_decimals_only_where_they_have_a_fraction():
    ms = pa.array([1705314600000, 1705314600250, 1705314600007], pa.int64())
    assert format_times(ms).to_pylist() == [
        "2024-01-15T10:30:00Z",
        "2024-01-15T10:30:00.250Z",
        "2024-01-15T10:30:00.007Z",
    ]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-01-15T10:30:00Z", 1705314600000),
        ("2024-01-15T12:30:00+02:00", 1705314600000),
        ("2024-01-15T12:30:00 02:00", 1705314600000),
        ("2024-01-15 10:30:00", 1705314600000),
        ("2024-01-15T10:30:00.0001Z", 1705314600001),
        ("2024-01-15", 1705276800000),
        ("1705314600", 1705314600000),
        ("1705314600.0005", 1705314600001),
        ("1705314600123", 1705314600123),
        ("1705314600123.5", 1705314600124),
        ("now", 1_000_000_000_000),
        ("now-15m", 999_999_100_000),
        ("now+1h", 1_000_003_600_000),
        ("now 1h", 1_000_003_600_000),
        ("now-7d", 999_395_200_000),
    ],
)
def test_query_times(text, ms):
    assert parse_time_ms(text, 1_000_000_000_000) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-13-01", "2024-01-15T25:00:00Z", "-5", "now-1y", "2024-W03-1"]
)
def test_query_times_that_are_none(text):
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_time_ms(text, 0)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1.5, None, 0.0, -2.25, None]),
        pa.array([1.0, 2.0]),
        pa.array([None, None], pa.float64()),
        pa.array([], pa.float64()),
        pa.array(["a", None, "b", "a", ""]).dictionary_encode(),
        pa.array(["a", None, "ü"]),
        pa.array([1, None, 3]),
    ],
)
def test_arrays_become_the_same_lists(array):
    assert to_list(array) == array.to_pylist()
    assert to_list(array[1:]) == array[1:].to_pylist()
    assert to_list(array.take(pa.array(range(len(array) - 1, -1, -1), pa.int64()))) == array.to_pylist()[::-1]


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(max_size=8)),
            st.one_of(st.none(), st.floats()),
            st.one_of(st.none(), st.sampled_from(['a, "b"', "{}", "\\", "ü,"])),
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_records_are_valid_json_whatever_they_hold(cells, encoded):
    texts = {"hostname": [c[0] for c in cells], "modelname": [c[2] for c in cells]}
    columns = {n: pa.array(v, pa.string()) for n, v in texts.items()}
    if encoded:
        columns = {n: v.dictionary_encode() for n, v in columns.items()}
    numbers = [c[1] for c in cells]
    table = pa.table({
        "uuid": pa.array([f"GPU-{i}" for i in range(len(cells))]),
        "timestamp": pa.array([1000 * i for i in range(len(cells))], pa.timestamp("ms", tz="UTC")),
        "power_draw": pa.array(numbers, pa.float64()),
        **columns,
    })  # fmt: skip
    found = json.loads(b"[" + render_records(table) + b"]")
    for record, (host, number, model) in zip(found, cells, strict=True):
        assert record["hostname"] == host
        assert record.get("modelname") == model
        finite = number is not None and math.isfinite(number)
        assert record["power_draw"] == (number if finite else None)
