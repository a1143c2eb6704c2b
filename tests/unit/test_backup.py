"""Plans of exports and imports cover everything once; an answer that is not whole is none."""

from __future__ import annotations

import click
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.query.export import Batch, Span, encode_end, encode_stream, plan_batches, rows_by_day
from functions.query.records import Window
from functions.upload.uploads import find_start
from local_runtime.backup.answer import scan_answer
from local_runtime.backup.exporting import begin_export
from local_runtime.backup.lock import holding
from local_runtime.backup.manifest import File, Manifest, read_manifest
from local_runtime.backup.parquet import leave_out_later, write_days
from local_runtime.backup.parts import DAY_MS, Gpu, format_day, plan_parts
from local_runtime.backup.sources import Source, iter_requests, plan_pieces
from local_runtime.cli import _COMMANDS, cli
from shared.client import Client
from shared.errors import Conflict, InvalidInput, Transient
from shared.records import TIMESTAMP

STRETCH = st.tuples(st.integers(0, 30 * DAY_MS), st.integers(0, 5 * DAY_MS), st.integers(1, 10_000))


@given(st.lists(STRETCH, max_size=8), st.integers(1, 5000))
def test_every_gpu_and_day_is_in_one_part(stretches, wanted):
    gpus = [Gpu(uuid=f"{i:02}", first_ms=a, last_ms=a + b, rows=n) for i, (a, b, n) in enumerate(stretches)]
    days = {format_day(d * DAY_MS): 100 for d in range(36)}
    parts = plan_parts(days, gpus, wanted)
    assert [p.number for p in parts] == list(range(len(parts)))
    for gpu in gpus:
        for day in range(gpu.first_ms // DAY_MS, gpu.last_ms // DAY_MS + 1):
            holding = [
                p
                for p in parts
                if p.first_uuid <= gpu.uuid <= p.last_uuid and p.start_ms <= day * DAY_MS < p.end_ms
            ]
            assert len(holding) == 1


def test_parts_are_about_as_large_as_wanted():
    gpus = [Gpu(uuid=f"{i:04}", first_ms=0, last_ms=7 * DAY_MS - 1, rows=70_000) for i in range(100)]
    days = {format_day(d * DAY_MS): 1_000_000 for d in range(7)}
    parts = plan_parts(days, gpus, 200_000)
    assert len(parts) == 35
    assert {p.rows_estimate for p in parts} == {200_000}
    assert len(plan_parts(days, gpus, 3_000_000)) == 3


@given(st.lists(STRETCH, max_size=8))
def test_rows_by_day_are_what_spreading_them_one_by_one_gives(stretches):
    expected: dict[int, float] = {}
    for first, length, rows in stretches:
        for day in range(first // DAY_MS, (first + length) // DAY_MS + 1):
            overlap = min(first + length + 1, (day + 1) * DAY_MS) - max(first, day * DAY_MS)
            expected[day] = expected.get(day, 0.0) + rows * overlap / (length + 1)
    assert rows_by_day((a, a + b, n) for a, b, n in stretches) == pytest.approx(expected)


def test_one_row_of_1970_does_not_take_the_server_long():
    stretches = [(0, 20_000 * DAY_MS, 100)] * 3000
    assert len(rows_by_day(stretches)) == 20_001


@given(st.lists(STRETCH, max_size=8), st.integers(1, 5000), st.booleans())
def test_batches_hold_every_gpu_once_and_in_order(stretches, most, bounded):
    spans = [Span(f"{i:02}", a, a + b, n) for i, (a, b, n) in enumerate(stretches)]
    window = Window(start_ms=5 * DAY_MS, end_ms=20 * DAY_MS) if bounded else Window()
    batches = list(plan_batches(spans, window, most))
    inside = [s.uuid for s in spans if not bounded or (s.last_ms >= 5 * DAY_MS and s.first_ms < 20 * DAY_MS)]
    assert [u for b in batches for u in b.uuids] == inside
    for batch in batches:
        for span in (s for s in spans if s.uuid in batch.uuids and not bounded):
            assert batch.start_ms <= span.first_ms <= span.last_ms < batch.end_ms


@given(st.integers(1, 9), st.integers(0, 100), st.integers(1, 100))
def test_a_batch_splits_down_to_one_gpu_at_one_instant(gpus, start, length):
    left = [Batch(tuple(f"{i}" for i in range(gpus)), start, start + length)]
    smallest = []
    while left:
        batch = left.pop()
        halves = batch.split()
        if halves is None:
            smallest.append(batch)
        left += halves or ()
    assert sorted((b.uuids[0], b.start_ms) for b in smallest) == sorted(
        (f"{i}", t) for i in range(gpus) for t in range(start, start + length)
    )


def rows(*values, received=1, start=0):
    return pa.table({
        "uuid": pa.array([u for u, _ in values]).dictionary_encode(),
        "timestamp": pa.array([start + t for _, t in values], TIMESTAMP),
        "received_at": pa.array([received] * len(values), pa.int64()),
        "upload_id": pa.array(["00000000000a-aaaaaaaaaaaa"] * len(values)).dictionary_encode(),
        "number": pa.array([0] * len(values), pa.int32()),
    })  # fmt: skip


ANSWER = encode_stream(rows(("a", 1), ("a", 2))) + encode_stream(rows(("b", 3))) + encode_end(3)


def test_an_answer_that_breaks_off_anywhere_is_none(tmp_path):
    file = tmp_path / "answer"
    file.write_bytes(ANSWER)
    assert scan_answer(file).rows == 3
    # The last eight bytes say that the last stream ends, which the end of the file does too.
    for length in range(len(ANSWER) - 8):
        file.write_bytes(ANSWER[:length])
        with pytest.raises(Transient):
            scan_answer(file)
    file.write_bytes(encode_stream(rows(("a", 1))) + encode_end(3))
    with pytest.raises(Transient):
        scan_answer(file)


def test_later_rows_are_left_out_except_where_they_may_stand_for_older_ones():
    keep = leave_out_later(100, [Gpu(uuid="a", first_ms=10, last_ms=20, rows=1), Gpu(uuid="b", first_ms=15, last_ms=15, rows=1)])  # fmt: skip
    old = rows(("a", 5), ("c", 1), received=99)
    assert keep(old).equals(old)
    later = rows(("a", 9), ("a", 10), ("a", 20), ("a", 21), ("b", 14), ("b", 15), ("c", 15), received=100)
    kept = keep(later)
    assert [(u, t.timestamp()) for u, t in zip(kept["uuid"].to_pylist(), kept["timestamp"].to_pylist(), strict=True)] == [("a", 0.01), ("a", 0.02), ("b", 0.015)]  # fmt: skip


def test_a_part_that_breaks_while_it_is_written_leaves_nothing_that_counts(tmp_path):
    file = tmp_path / "answer"
    file.write_bytes(ANSWER)
    scan = scan_answer(file)
    written = write_days(file, scan, tmp_path, 7, lambda table: table)
    assert [(f.path, f.rows) for f in written] == [("date=1970-01-01/part-00007.parquet", 3)]

    def fail(_table):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_days(file, scan, tmp_path, 8, fail)
    assert not list(tmp_path.rglob("part-00008.parquet"))


def test_a_manifest_comes_back_as_it_was(tmp_path):
    parts = plan_parts({"2024-01-15": 5}, [Gpu(uuid="a", first_ms=1705276800000, last_ms=1705276800001, rows=5)], 3)  # fmt: skip
    manifest = Manifest(url="http://x", created_ms=5, until_ms=4, queued=1, parts=parts)
    manifest.done[0] = [File(path="p", rows=1, bytes=2, sha256="s")]
    manifest.save(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert not list(tmp_path.glob("*.tmp"))
    for text in ("{", "[]", '{"format": 1}', '{"format": 99}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(InvalidInput, match=r"manifest\.json"):
            read_manifest(tmp_path)


def test_what_a_break_left_behind_is_deleted_and_a_file_that_is_gone_is_fetched_again(tmp_path):
    gpus = [Gpu(uuid=u, first_ms=0, last_ms=1, rows=9) for u in "abc"]
    manifest = Manifest(
        url="http://x", created_ms=5, until_ms=4, queued=0, parts=plan_parts({"1970-01-01": 3}, gpus, 1)
    )
    answer = tmp_path / "part-00002.arrows.tmp"
    answer.write_bytes(ANSWER)
    for part in (0, 1):
        manifest.done[part] = write_days(answer, scan_answer(answer), tmp_path, part, lambda table: table)
    write_days(answer, scan_answer(answer), tmp_path, 2, lambda table: table)
    manifest.save(tmp_path)
    (tmp_path / "gpus.json").write_text("[]")
    (tmp_path / manifest.done[1][0].path).write_bytes(b"cut off")
    found = begin_export(Client("http://x"), tmp_path, part_rows=1, overwrite=False)
    assert set(found.done) == {0}
    left = sorted(f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*") if f.is_file())
    assert left == ["date=1970-01-01/part-00000.parquet", "gpus.json", "manifest.json"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("manifest.json", '{"name": "a web page", "icons": []}'),
        ("manifest.json", "{"),
        ("thesis.txt", "years of work"),
        ("gpus.json", "[]"),
        ("date=2024-01-15/part-00000.parquet", "somebody else's"),
    ],
)
def test_what_is_no_exports_is_left_alone_whatever_is_said(tmp_path, name, text, overwrite):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    with pytest.raises(InvalidInput, match=file.name):
        begin_export(Client("http://x"), tmp_path, part_rows=1, overwrite=overwrite)
    assert file.read_text() == text
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [file]


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path):
    file = tmp_path / ".lock"
    file.touch()  # a killed one left it
    with holding(file, "held"):
        with pytest.raises(Conflict, match="held"), holding(file, "held"):
            pass
        # Who was refused does not take it away.
        with pytest.raises(Conflict), holding(file, "held"):
            pass
    assert not file.exists()


@given(st.lists(st.lists(st.integers(1, 300), max_size=5), max_size=5), st.integers(1, 500), st.data())
def test_requests_hold_every_row_group_once_and_in_order(files, wanted, data):
    pieces, expected = [], []
    for name, groups in enumerate(files):
        source = Source(path=None, name=str(name), bytes=1, sha256="")
        done = data.draw(st.integers(0, len(groups)))
        pieces += plan_pieces(source, groups, done, wanted)
        expected += [(str(name), group) for group in range(done, len(groups))]
    requests = list(iter_requests(pieces, wanted))
    assert [(p.source.name, g) for request in requests for p in request for g in p.groups] == expected
    for request in requests:
        total = sum(p.rows for p in request)
        assert total <= wanted or (len(request) == 1 and len(request[0].groups) == 1)


@given(st.lists(st.integers(0, 200), min_size=1), st.integers(1, 20))
def test_a_page_of_uploads_begins_where_enough_of_them_follow(times, wanted):
    def count_from(ms):
        return sum(t >= ms for t in times)

    start = find_start(count_from, min(times), 1 << 48, wanted)
    assert count_from(start) >= min(wanted, len(times))
    # Not many more, unless they came within the same millisecond.
    assert count_from(start) <= 2 * wanted or count_from(start + 1) < wanted


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_subcommand_is_there(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
