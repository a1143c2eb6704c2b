"""Clocks of ticks, retention's cut-off, and which etcd member is defragmented: time and sizes as arguments."""

from __future__ import annotations

from shared.etcd import MemberStatus
from shared.store.retention import decide_cutoff, decide_time
from shared.store.ticks import (
    ENOUGH,
    MOST_APART_MS,
    Clock,
    build_clock,
    decide_history,
    disagrees,
    may_sweep,
    parse_clock,
    tick,
)
from shared.store.upkeep import decide_defragment

MINUTE, DAY = 60_000, 86_400_000
NOON = 1_705_320_000_000  # 2024-01-15T12:00:00Z
MIB = 1024 * 1024


def ticks(*times):
    clock = Clock()
    for revision, time in enumerate(times):
        clock = tick(clock, time, revision)
    return clock


def test_three_ticks_in_a_row_have_to_agree():
    times = [NOON + i * MINUTE for i in range(4)]
    assert [ticks(*times[:n]).agreed >= ENOUGH for n in range(1, 5)] == [False, False, True, True]


def test_a_wrong_clock_among_right_ones_never_sweeps():
    for wrong in (9 * DAY, -9 * DAY):
        times = [NOON, NOON + wrong, NOON, NOON + wrong, NOON + wrong, NOON, NOON]
        assert [ticks(*times[:n]).agreed for n in range(1, 8)] == [1, 1, 1, 1, 2, 1, 2]


def test_after_a_pause_it_takes_three_ticks_again():
    times = [NOON, NOON, NOON, NOON + DAY, NOON + DAY + MINUTE, NOON + DAY + 2 * MINUTE]
    assert [ticks(*times[:n]).agreed for n in range(1, 7)] == [1, 2, 3, 1, 2, 3]
    assert disagrees(ticks(NOON), NOON + 11 * MINUTE)
    assert not disagrees(ticks(NOON), NOON + 9 * MINUTE)
    assert not disagrees(Clock(), NOON)


def test_a_tick_whose_source_says_another_time_does_not_count():
    for wrong in (9 * DAY, -9 * DAY):
        clock = ticks(NOON, NOON, NOON)
        for _ in range(5):
            clock = tick(clock, NOON + wrong, 9, NOON)
            assert not may_sweep(clock, NOON + wrong)
        assert clock == ticks(NOON, NOON, NOON)
        assert not may_sweep(tick(Clock(), NOON + wrong, 9, NOON), NOON + wrong)


def test_a_tick_whose_source_agrees_may_sweep_at_once_but_not_after_a_pause():
    first = tick(Clock(), NOON, 1, NOON + MOST_APART_MS)
    assert may_sweep(first, NOON)
    later = NOON + DAY
    for expected in (False, False, True):
        first = tick(first, later, 2, later)
        assert may_sweep(first, later) == expected


def test_a_clock_is_read_as_it_was_written():
    clock = ticks(NOON, NOON + MINUTE)
    assert parse_clock(build_clock(clock)) == clock
    assert parse_clock(None) == Clock()


def test_the_last_minute_of_history_stays():
    clock = ticks(NOON, NOON + MINUTE, NOON + 2 * MINUTE)
    assert decide_history(clock, NOON + 2 * MINUTE) == 1
    assert decide_history(ticks(NOON), NOON + 30_000) is None


def test_retention_keeps_every_upload_for_whole_days():
    assert decide_cutoff("7d", NOON) == "20240108"
    assert decide_cutoff("0d", NOON) == "20240115"
    assert decide_cutoff("off", NOON) == ""
    assert decide_cutoff("99999d", NOON) == "19700101"


def test_a_tick_counts_back_from_the_newest_day_stored():
    assert decide_time(NOON, "20240115") == NOON
    assert decide_time(NOON + 9 * DAY, "20240115") == NOON + DAY // 2 - 1
    for retention, cutoff in (("7d", "20240108"), ("1d", "20240114"), ("0d", "20240115")):
        assert decide_cutoff(retention, decide_time(NOON + 9 * DAY, "20240115")) == cutoff


def member(size, in_use):
    return MemberStatus(version="3.5.16", db_size_bytes=size * MIB, db_in_use_bytes=in_use * MIB, revision=1)


def test_one_member_is_defragmented_where_it_is_worth_it():
    quota = 8192 * MIB
    assert decide_defragment({"a": member(60, 1), "b": member(500, 400)}, quota) is None
    assert decide_defragment({"a": member(500, 200), "b": member(500, 100)}, quota) == "b"
    # Near the quota a tenth of it is worth it.
    assert decide_defragment({"a": member(6500, 5500)}, quota) == "a"
    assert decide_defragment({"a": member(6500, 6000)}, quota) is None
    assert decide_defragment({}, quota) is None
    assert decide_defragment({"a": member(60, 1)}, -1) is None
