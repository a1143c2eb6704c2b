"""The rate limit, with the time as an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.rate import RateLimit


def taken(limit, client, times):
    """How many of the requests at these times were let through."""
    return sum(limit.take(client, at) == 0 for at in times)


def test_two_seconds_worth_may_come_at_once_and_then_the_rate():
    limit = RateLimit(10)
    assert taken(limit, "a", [100.0] * 30) == 20
    assert limit.take("a", 100.0) == pytest.approx(0.1)
    assert taken(limit, "a", [100.05] * 3) == 0
    assert taken(limit, "a", [100.1] * 3) == 1
    assert taken(limit, "a", [101.1 + i / 100 for i in range(100)]) == 19
    assert taken(limit, "a", [200.0] * 30) == 20


def test_who_waits_as_long_as_he_was_told_is_let_through():
    limit = RateLimit(3)
    now_s = 5.0
    for _ in range(50):
        wait_s = limit.take("a", now_s)
        if wait_s:
            now_s += wait_s + 1e-9
            assert limit.take("a", now_s) == 0


def test_clients_do_not_share():
    limit = RateLimit(1)
    assert [taken(limit, name, [0.0] * 5) for name in "abc"] == [2, 2, 2]


def test_less_than_one_request_in_two_seconds():
    limit = RateLimit(0.1)
    assert taken(limit, "a", [0.0, 1.0, 9.9, 10.0, 10.1, 20.0]) == 3


def test_the_number_of_clients_is_bounded_and_the_latest_are_remembered():
    limit = RateLimit(1, most_clients=3)
    for name in "abcd":
        assert taken(limit, name, [0.0] * 3) == 2
    assert len(limit._spent_until_s) == 3
    # b asks again, so that c is who asked longest ago.
    assert taken(limit, "b", [1.0]) == 1
    assert taken(limit, "e", [1.0]) == 1
    assert taken(limit, "b", [1.0]) == 0
    assert taken(limit, "c", [1.0] * 3) == 2
    assert taken(limit, "d", [0.0]) == 1
    assert taken(limit, "a", [0.0]) == 1


@given(
    st.floats(0.5, 200),
    st.lists(st.floats(0, 30), min_size=1, max_size=300),
)
def test_in_no_window_more_than_rate_and_burst(rate, times):
    limit = RateLimit(rate)
    let = [at for at in sorted(times) if limit.take("a", at) == 0]
    for i, start in enumerate(let):
        for j in range(i, len(let)):
            assert j - i + 1 <= max(2 * rate, 1) + rate * (let[j] - start) + 1e-6
