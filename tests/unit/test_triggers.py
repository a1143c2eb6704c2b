"""When cron fires, what it sends, and when it tries again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from local_runtime.manifests import PingSource
from local_runtime.triggers import decide_retry_s, parse_cron, parse_schedule
from shared.errors import BadConfig

URL = "http://127.0.0.1:8082"


def source(**spec):
    return PingSource.model_validate(
        {
            "apiVersion": "sources.knative.dev/v1",
            "kind": "PingSource",
            "metadata": {"name": "tick", "namespace": "gpu"},
            "spec": {"schedule": "* * * * *", "sink": {"uri": URL}, **spec},
        }
    )


def ticks(after, count=1, **spec):
    cron = parse_cron(source(**spec), URL, timeout_s=5)
    at_s, out = datetime.fromisoformat(after).timestamp(), []
    for _ in range(count):
        at_s = cron.next_tick_s(at_s)
        out.append(datetime.fromtimestamp(at_s, UTC).strftime("%m-%dT%H:%M:%S"))
    return out


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * *", "2024-01-15T10:30:00Z", "01-15T10:31:00"),
        ("* * * * *", "2024-01-15T10:30:59.999Z", "01-15T10:31:00"),
        ("*/15 * * * *", "2024-01-15T10:31:00Z", "01-15T10:45:00"),
        ("*/10 * * * * *", "2024-01-15T10:30:01Z", "01-15T10:30:10"),
        ("30 0 12 * * *", "2024-01-15T10:30:00Z", "01-15T12:00:30"),
        ("@hourly", "2024-01-15T10:30:00Z", "01-15T11:00:00"),
        ("0 0 * * SUN", "2024-01-15T10:30:00Z", "01-21T00:00:00"),
        ("0 0 ? * 0", "2024-01-15T10:30:00Z", "01-21T00:00:00"),
        # Day of month and day of week both set: either will do.
        ("0 0 20 * 3", "2024-01-15T10:30:00Z", "01-17T00:00:00"),
    ],
)
def test_the_next_tick(schedule, after, expected):
    assert ticks(after, schedule=schedule) == [expected]


def test_ticks_are_strictly_after_the_time_given():
    assert ticks("2024-01-15T10:30:00Z", 3) == ["01-15T10:31:00", "01-15T10:32:00", "01-15T10:33:00"]


def test_a_schedule_is_meant_in_its_timezone():
    assert ticks("2024-01-15T00:00:00Z", schedule="0 9 * * *", timezone="Europe/Berlin") == ["01-15T08:00:00"]


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "@every 5s",
        "@reboot",
        "60 * * * *",
        "* * * * 7",
        "* * L * *",
        "* * * * 5#3",
    ],
)
def test_what_knative_refuses_is_refused(schedule):
    with pytest.raises(ValueError, match=r".+"):
        parse_schedule(schedule)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"timezone": "Mars/Olympus"}, "Mars"),
        ({"contentType": "application/json", "data": "[1]"}, "JSON object"),
        ({"contentType": "application/json", "data": "{"}, "PingSource tick"),
        ({"data": "a", "dataBase64": "YQ=="}, "exclude"),
        ({"schedule": "often"}, "5"),
    ],
)
def test_a_source_that_cannot_work_is_named(spec, said):
    with pytest.raises(BadConfig, match="PingSource tick: ") as caught:
        parse_cron(source(**spec), URL, timeout_s=5)
    assert said in caught.value.message


def test_the_event_is_a_binary_cloudevent():
    cron = parse_cron(source(contentType="application/json", data='{"kind": "tick"}'), URL, timeout_s=5)
    assert cron.headers == {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-type": "dev.knative.sources.ping",
        "ce-source": "/apis/v1/namespaces/gpu/pingsources/tick",
    }
    assert cron.body == b'{"kind": "tick"}'
    assert parse_cron(source(dataBase64="AP8="), URL, timeout_s=5).body == b"\x00\xff"


def test_five_retries_then_the_tick_is_lost():
    assert [decide_retry_s(attempt, None) for attempt in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.6, None]


@pytest.mark.parametrize("status", [404, 413, 425, 429, 502, 503, 504])
def test_a_passing_failure_is_tried_again(status):
    assert decide_retry_s(1, status) == 0.1


@pytest.mark.parametrize("status", [400, 401, 405, 409, 500, 501])
def test_a_lasting_failure_is_not(status):
    assert decide_retry_s(1, status) is None
