"""What `gpu-telemetry logs` makes of the files: order, form, and what is written while it looks."""

from __future__ import annotations

import json
import os
from contextlib import closing

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.cli import cli
from local_runtime.commands.logs import format_time
from local_runtime.log_files import LogFolder, list_services
from local_runtime.log_records import LEVELS, clean, parse_record
from shared.errors import NotFound


def said(second, message, level="info", **extra):
    return json.dumps(
        {
            "time": f"2026-01-02T03:04:{second:06.3f}+00:00",
            "level": level,
            "logger": "x",
            "message": message,
            **extra,
        }
    )


def write(folder, service, *lines, end="\n"):
    folder.mkdir(exist_ok=True)
    with (folder / f"{service}.log").open("a") as log:
        log.write("\n".join(lines) + end)


def messages(records):
    return [record.message for record in records]


def read_last(folder, count=50, wanted=lambda _record: True, services=()):
    with closing(LogFolder(folder, services)) as logs:
        return logs.read_last(count, wanted)


def everything(_record):
    return True


def logs(data_dir, *arguments):
    return CliRunner().invoke(cli, ["logs", "--data-dir", str(data_dir), *arguments])


def test_the_records_of_all_files_come_in_the_order_of_time(tmp_path):
    write(tmp_path, "a", said(1, "a1"), said(4, "a4"))
    write(tmp_path, "b", said(2, "b2"), "Traceback", "  File", said(3, "b3"))
    assert messages(read_last(tmp_path)) == [
        "a1",
        "b2",
        "Traceback",
        "  File",
        "b3",
        "a4",
    ]
    assert messages(read_last(tmp_path, 2)) == ["b3", "a4"]
    assert messages(read_last(tmp_path, 2, services=["b"])) == ["  File", "b3"]
    assert read_last(tmp_path, 0) == []


def test_lines_before_the_first_time_stand_before_what_follows_them(tmp_path):
    write(tmp_path, "a", "Traceback of the start", said(5, "a5"))
    write(tmp_path, "b", said(1, "b1"))
    assert messages(read_last(tmp_path)) == ["b1", "Traceback of the start", "a5"]


def test_the_last_records_are_found_however_far_from_the_end(tmp_path):
    write(tmp_path, "a", said(1, "wanted", "error"), *(said(2, "x" * 200) for _ in range(3000)))
    found = read_last(tmp_path, 3, lambda record: record.reaches("error"))
    assert messages(found) == ["wanted"]


def test_a_line_is_never_shown_by_half(tmp_path):
    line = said(1, "x" * 150)
    write(tmp_path, "a", *[line] * 1000)
    fit = 64 * 1024 // (len(line) + 1)
    for count in (fit, fit + 1, fit + 2):
        assert [record.line for record in read_last(tmp_path, count)] == [line] * count


def test_what_a_fresh_log_has_put_aside_belongs_to_it(tmp_path):
    write(tmp_path, "a", said(1, "old"))
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    write(tmp_path, "a", said(2, "new"))
    assert messages(read_last(tmp_path)) == ["old", "new"]
    assert list_services(tmp_path) == ["a"]


def test_following_shows_what_is_written_whole_lines_only(tmp_path):
    write(tmp_path, "a", said(1, "a1"))
    with closing(LogFolder(tmp_path)) as folder:
        folder.read_last(50, everything)
        assert folder.read_new() == []
        write(tmp_path, "a", said(2, "a2"), said(3, "a3")[:20], end="")
        assert messages(folder.read_new()) == ["a2"]
        write(tmp_path, "a", said(3, "a3")[20:])
        assert messages(folder.read_new()) == ["a3"]


def test_a_line_that_was_not_complete_at_the_first_look_is_shown_once_it_is(tmp_path):
    write(tmp_path, "a", said(1, "a1"), said(2, "a2")[:30], end="")
    with closing(LogFolder(tmp_path)) as folder:
        assert messages(folder.read_last(50, everything)) == ["a1"]
        write(tmp_path, "a", said(2, "a2")[30:])
        assert messages(folder.read_new()) == ["a2"]


def test_following_goes_on_over_truncation_rotation_and_files_that_come_later(tmp_path):
    write(tmp_path, "a", said(1, "a1"), said(1, "more"))
    with closing(LogFolder(tmp_path)) as folder:
        folder.read_last(50, everything)
        os.truncate(tmp_path / "a.log", 0)
        write(tmp_path, "a", said(2, "a2"))
        assert messages(folder.read_new()) == ["a2"]
        write(tmp_path, "a", said(3, "a3"))
        (tmp_path / "a.log").rename(tmp_path / "a.log.1")
        write(tmp_path, "a", said(5, "a5"))
        write(tmp_path, "later", said(4, "l4"))
        assert messages(folder.read_new()) == ["a3", "l4", "a5"]
        # An instance that had the file open before goes on writing to it.
        with (tmp_path / "a.log.1").open("a") as old:
            old.write(said(6, "a6") + "\n")
        assert messages(folder.read_new()) == ["a6"]
        (tmp_path / "a.log").rename(tmp_path / "a.log.1")
        write(tmp_path, "a", said(7, "a7"))
        assert messages(folder.read_new()) == ["a7"]
        assert len(folder._logs) == 3


def test_a_name_that_is_there_anew_is_read_from_its_beginning(tmp_path):
    write(tmp_path, "a", said(1, "a1"))
    with closing(LogFolder(tmp_path)) as folder:
        folder.read_last(50, everything)
        (tmp_path / "a.log").unlink()
        assert folder.read_new() == []
        write(tmp_path, "a", said(2, "a2"))
        assert messages(folder.read_new()) == ["a2"]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30), st.integers(0, 10))
def test_no_record_is_lost_or_doubled_wherever_the_look_falls(tmp_path_factory, written, first):
    tmp_path = tmp_path_factory.mktemp("logs")
    names = ["a", "b"]
    for i, (second, in_b) in enumerate(written[:first]):
        write(tmp_path, names[in_b], said(second, str(i)))
    with closing(LogFolder(tmp_path)) as folder:
        shown = messages(folder.read_last(100, everything))
        for i, (second, in_b) in enumerate(written[first:], first):
            write(tmp_path, names[in_b], said(second, str(i)))
            if i % 3 == 0:
                shown += messages(folder.read_new())
        shown += messages(folder.read_new())
        assert sorted(shown) == sorted(str(i) for i in range(len(written)))


def test_etcds_own_form_is_understood():
    line = '{"level":"warn","ts":"2026-01-02T03:04:05.5Z","caller":"a.go:1","msg":"slow","took":"2s"}'
    record = parse_record("etcd", line)
    assert (record.level, record.message, record.at_s) == ("warning", "slow", 1_767_323_045.5)
    assert list(record.iter_extra()) == [("took", "2s")]


def test_the_fields_that_say_more_than_the_message_are_shown():
    line = said(1, "GET /a 200", status=200, route="/a", duration_ms=1.5, token=None, lost=0, request_id="r")
    assert list(parse_record("a", line).iter_extra()) == [("duration_ms", "1.5")]
    wrong = said(1, "moved 80", "error", moved=8, request_id="r", action="x")
    assert list(parse_record("a", wrong).iter_extra()) == [
        ("moved", "8"),
        ("request_id", "r"),
        ("action", "x"),
    ]


def test_a_plain_line_that_begins_with_a_time_has_one():
    record = parse_record("runtime", "2026-01-02T03:04:05.500+01:00 query: ended")
    assert (record.message, record.at_s) == ("query: ended", 1767319445.5)


def test_what_the_runtime_prints_is_of_no_interest_among_warnings():
    levels = [parse_record("runtime", line).level for line in ("  query  http://x", "error: no etcd")]
    assert levels == ["info", ""]
    assert parse_record("collect", "Traceback (most recent call last):").level == ""


@pytest.mark.parametrize("line", ["{", "[1]", '"x"', "{}x", "2026-99-99T00:00:00Z no time", "plain"])
def test_other_lines_stay_as_they_are(line):
    record = parse_record("a", line)
    assert (record.message, record.at_s, record.level) == (line, None, "")
    assert all(record.reaches(level) for level in LEVELS)


@given(st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",))))
def test_any_line_can_be_shown(line):
    record = parse_record("a", line)
    assert not any(c in clean(record.message + line) for c in "\x1b\x07\x00\r\x9b")
    list(record.iter_extra())


@given(st.dictionaries(st.sampled_from(["time", "level", "message", "exception", "x", "instance"]), st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.floats()))  # fmt: skip
def test_any_object_can_be_shown(fields):
    record = parse_record("a", json.dumps(fields))
    list(record.iter_extra())
    assert record.reaches("debug")


def test_a_day_that_is_not_todays_is_said():
    assert len(format_time(1_767_319_445.5, 1_767_319_446.0)) == len("03:04:05.500")
    assert format_time(1_767_319_445.5, 1_767_519_446.0).startswith("2026-01-0")


def test_the_command_prints_a_line_a_record_and_indents_what_belongs_to_it(tmp_path):
    write(tmp_path / "logs", "a", said(1, "first\nsecond", "error", exception="Traceback\n  ValueError"))
    write(tmp_path / "logs", "longer", said(2, "ok", instance="longer-00001-1"), "plain")
    done = logs(tmp_path)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].endswith("  a               error    first")
    assert lines[1:4] == ["    second", "    Traceback", "      ValueError"]
    assert lines[4].endswith("  longer-00001-1  info     ok")
    assert lines[5].strip() == "longer          plain"


def test_the_command_knows_levels_services_and_raw_lines(tmp_path):
    write(tmp_path / "logs", "a", said(1, "fine"), said(2, "bad", "warning"))
    write(tmp_path / "logs", "b", said(3, "worse", "critical"))
    assert [line.split()[-1] for line in logs(tmp_path, "--level", "warning").stdout.splitlines()] == [
        "bad",
        "worse",
    ]
    assert logs(tmp_path, "a", "--json", "-n", "1").stdout == said(2, "bad", "warning") + "\n"


def test_an_unknown_service_is_named_with_those_there_are(tmp_path):
    write(tmp_path / "logs", "a", said(1, "x"))
    write(tmp_path / "logs", "b", said(1, "x"))
    failed = logs(tmp_path, "c").exception
    assert isinstance(failed, NotFound)
    assert "'c'" in failed.message
    assert "there are a, b" in failed.message


def test_without_any_log_it_says_what_writes_some(tmp_path):
    assert "`gpu-telemetry up`" in logs(tmp_path).exception.message


def test_nothing_that_was_logged_reaches_the_terminal_as_a_control(tmp_path):
    write(
        tmp_path / "logs", "a", said(1, "evil \x1b]0;title\x07", "error", name="\x1b[2J", instance="\x1b[1m")
    )
    assert "\x1b" not in logs(tmp_path).stdout
