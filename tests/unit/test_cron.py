"""Which ticks a schedule has: the rules of robfig/cron, whose time zones and days are not those of Unix."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.cron import parse_schedule, parse_timezone

MONDAY = "2024-01-15T10:30:00Z"


class Counting(tzinfo):
    """UTC that counts how often it is asked."""

    asked = 0

    def utcoffset(self, _at):
        return timedelta(0)

    def fromutc(self, at):
        self.asked += 1
        return at


def ticks(schedule, after, count=1, timezone=""):
    parsed, at_s, out = parse_schedule(schedule, timezone), datetime.fromisoformat(after).timestamp(), []
    for _ in range(count):
        at_s = parsed.next_tick_s(at_s)
        out.append(datetime.fromtimestamp(at_s, UTC).strftime("%m-%dT%H:%M:%S"))
    return out


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * *", MONDAY, "01-15T10:31:00"),
        ("* * * * *", "2024-01-15T10:30:59.999Z", "01-15T10:31:00"),
        ("* * * * *", "2024-12-31T23:59:00Z", "01-01T00:00:00"),
        ("*/15 * * * *", "2024-01-15T10:31:00Z", "01-15T10:45:00"),
        ("7/20 * * * *", MONDAY, "01-15T10:47:00"),  # from 7 to the end
        ("10-40/15 * * * *", MONDAY, "01-15T10:40:00"),
        ("5,40,50-55 * * * *", "2024-01-15T10:40:00Z", "01-15T10:50:00"),
        ("0 9-17 * * *", "2024-01-15T17:00:00Z", "01-16T09:00:00"),
        # six fields: the seconds first
        ("*/10 * * * * *", "2024-01-15T10:30:01Z", "01-15T10:30:10"),
        ("30 0 12 * * *", MONDAY, "01-15T12:00:30"),
        ("59 59 23 31 12 *", MONDAY, "12-31T23:59:59"),
        # aliases
        ("@hourly", MONDAY, "01-15T11:00:00"),
        ("@daily", MONDAY, "01-16T00:00:00"),
        ("@midnight", MONDAY, "01-16T00:00:00"),
        ("@weekly", MONDAY, "01-21T00:00:00"),
        ("@monthly", MONDAY, "02-01T00:00:00"),
        ("@yearly", MONDAY, "01-01T00:00:00"),
        ("@annually", MONDAY, "01-01T00:00:00"),
        # names, in any case
        ("0 0 * * SUN", MONDAY, "01-21T00:00:00"),
        ("0 0 * * mon-Wed", "2024-01-17T00:00:00Z", "01-22T00:00:00"),
        ("0 0 1 feb *", MONDAY, "02-01T00:00:00"),
        ("0 0 * * 6", MONDAY, "01-20T00:00:00"),
        ("0 0 29 2 *", "2024-03-01T00:00:00Z", "02-29T00:00:00"),  # in 2028
        # a day of the month and a day of the week: either will do ...
        ("0 0 20 * 3", MONDAY, "01-17T00:00:00"),
        ("0 0 16 * 3", MONDAY, "01-16T00:00:00"),
        ("0 0 */16 * 3", MONDAY, "01-17T00:00:00"),  # the 1st, the 17th: a step sets it too
        ("0 0 */16 * 2", MONDAY, "01-16T00:00:00"),
        # ... but where one of them is not set
        ("0 0 ? * 0", MONDAY, "01-21T00:00:00"),
        ("0 0 16 * ?", MONDAY, "01-16T00:00:00"),
        ("0 0 16 * */1", MONDAY, "01-16T00:00:00"),
        ("0 0 16,* * 3", MONDAY, "01-17T00:00:00"),
        # spaces, and parts that are empty
        ("  0   12 * *\t* ", MONDAY, "01-15T12:00:00"),
        ("0,,45 * * * *", MONDAY, "01-15T10:45:00"),
        ("*-5 * * * *", MONDAY, "01-15T10:31:00"),
        ("+5 11 * * *", MONDAY, "01-15T11:05:00"),
    ],
)
def test_the_next_tick(schedule, after, expected):
    assert ticks(schedule, after) == [expected]


def test_ticks_are_strictly_after_the_time_given():
    assert ticks("* * * * *", MONDAY, 3) == ["01-15T10:31:00", "01-15T10:32:00", "01-15T10:33:00"]
    assert ticks("*/30 * * * * *", MONDAY, 3) == ["01-15T10:30:30", "01-15T10:31:00", "01-15T10:31:30"]


@pytest.mark.parametrize("schedule", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", ", * * * *"])
def test_a_schedule_may_have_no_tick_at_all(schedule):
    assert parse_schedule(schedule).next_tick_s(0.0) == math.inf


@pytest.mark.parametrize(
    "schedule", [", * * * * *", "* , * * * *", "* * , * * *", "* * * , * *", "* * * * , *"]
)
def test_what_has_no_tick_is_known_without_trying_every_minute(schedule):
    zone = Counting()
    assert replace(parse_schedule(schedule), timezone=zone).next_tick_s(0.0) == math.inf
    assert zone.asked < 10_000


@pytest.mark.parametrize(
    ("schedule", "timezone"),
    [
        ("0 9 * * *", "Europe/Berlin"),
        ("TZ=Europe/Berlin 0 9 * * *", ""),
        ("CRON_TZ=Europe/Berlin 0 0 9 * * *", ""),
    ],
)
def test_a_schedule_is_meant_in_its_time_zone(schedule, timezone):
    winter, summer = "2024-01-15T00:00:00Z", "2024-07-15T00:00:00Z"
    assert ticks(schedule, winter, timezone=timezone) == ["01-15T08:00:00"]
    assert ticks(schedule, summer, timezone=timezone) == ["07-15T07:00:00"]


def test_an_alias_has_a_time_zone_too():
    assert ticks("TZ=Asia/Kolkata @daily", MONDAY) == ["01-15T18:30:00"]


@pytest.mark.parametrize(
    ("schedule", "timezone", "after", "expected"),
    [
        # Berlin, 31 March, 02:00 to 03:00 is left out: no tick that day ...
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2024-03-30T00:00:00Z",
            ["03-30T01:30:00", "04-01T00:30:00"],
        ),
        # ... and every hour has one all the same.
        (
            "0 * * * *",
            "Europe/Berlin",
            "2024-03-31T00:00:00Z",
            ["03-31T01:00:00", "03-31T02:00:00", "03-31T03:00:00"],
        ),
        ("0 0 * * *", "Europe/Berlin", "2024-03-30T23:00:00Z", ["03-31T22:00:00", "04-01T22:00:00"]),
        # 27 October, 02:00 to 03:00 comes twice: so does the tick.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2024-10-26T12:00:00Z",
            ["10-27T00:30:00", "10-27T01:30:00", "10-28T01:30:00"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2024-10-27T00:00:00Z",
            ["10-27T00:30:00", "10-27T01:00:00", "10-27T01:30:00", "10-27T02:00:00"],
        ),
        # Havana leaves out midnight itself, and later has it twice.
        ("0 0 * * *", "America/Havana", "2024-03-09T06:00:00Z", ["03-11T04:00:00"]),
        ("30 1 10 3 *", "America/Havana", "2024-03-09T06:00:00Z", ["03-10T05:30:00"]),
        ("0 0 3 11 *", "America/Havana", "2024-11-02T12:00:00Z", ["11-03T04:00:00", "11-03T05:00:00"]),
        # Half an hour, on Lord Howe.
        ("15 2 * * *", "Australia/Lord_Howe", "2024-10-05T12:00:00Z", ["10-06T15:15:00"]),
        # Samoa left out a whole day.
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", ["12-29T22:00:00"]),
    ],
)
def test_clocks_that_are_put_forward_and_back(schedule, timezone, after, expected):
    assert ticks(schedule, after, len(expected), timezone) == expected


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("@every 5s", "@hourly"),
        ("@reboot", "@hourly"),
        ("@HOURLY", "@hourly"),
        ("TZ=UTC @every 1m", "@hourly"),
        ("60 * * * *", "minute is 0 to 59"),
        ("60 * * * * *", "second is 0 to 59"),
        ("* 24 * * *", "hour is 0 to 23"),
        ("* * 0 * *", "day of the month is 1 to 31"),
        ("* * 32 * *", "day of the month is 1 to 31"),
        ("* * * 13 *", "month is 1 to 12"),
        ("* * * * 7", "day of the week is 0 to 6"),
        ("* * * * 5-7", "day of the week is 0 to 6"),
        ("30-10 * * * *", "ends before it begins"),
        ("* * * * fri-mon", "ends before it begins"),
        ("*/0 * * * *", "at least 1"),
        ("1/2/3 * * * *", "not understood"),
        ("1-2-3 * * * *", "not understood"),
        ("-5 * * * *", "not understood"),
        ("* * L * *", "not understood"),
        ("* * 15W * *", "not understood"),
        ("* * * * 5#3", "not understood"),
        ("* * * * monday", "not understood"),
        ("mon * * * *", "not understood"),
        ("* * * * \N{ARABIC-INDIC DIGIT FIVE}", "not understood"),
        ("TZ=Mars/Olympus * * * * *", "Mars/Olympus"),
        ("TZ=UTC", "1 fields"),
    ],
)
def test_what_knative_refuses_is_refused(schedule, said):
    with pytest.raises(ValueError, match=r".+") as caught:
        parse_schedule(schedule)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "../etc/passwd", "/etc/localtime", "Europe", "europe berlin"]
)
def test_a_time_zone_that_is_none(name):
    with pytest.raises(ValueError, match="there is no time zone"):
        parse_timezone(name)


def test_a_time_zone_is_named_once():
    with pytest.raises(ValueError, match="another"):
        parse_schedule("TZ=Europe/Berlin 0 9 * * *", "UTC")


@given(
    minutes=st.frozensets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.frozensets(st.integers(0, 23), min_size=1, max_size=4),
    weekdays=st.frozensets(st.integers(0, 6), min_size=1),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    minute_number=st.integers(27_874_080, 29_453_760),  # 2023 to 2025
)
def test_no_minute_that_fits_is_passed_over(minutes, hours, weekdays, zone, minute_number):
    text = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * {','.join(map(str, weekdays))}"
    schedule, timezone = parse_schedule(text, zone), parse_timezone(zone)
    start = datetime.fromtimestamp(minute_number * 60, UTC)
    found = datetime.fromtimestamp(schedule.next_tick_s(start.timestamp()), UTC)
    minute = start + timedelta(minutes=1)
    while True:
        wall = minute.astimezone(timezone)
        if wall.minute in minutes and wall.hour in hours and wall.isoweekday() % 7 in weekdays:
            break
        minute += timedelta(minutes=1)
    assert found == minute
