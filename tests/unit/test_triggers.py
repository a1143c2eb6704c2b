"""When cron fires, what it sends, and when it tries again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import yaml

from local_runtime.manifests import PingSource, parse_manifests
from local_runtime.triggers import decide_retry_s, parse_cron
from shared.errors import BadConfig

URL = "http://127.0.0.1:8082"


MANIFEST = {
    "apiVersion": "sources.knative.dev/v1",
    "kind": "PingSource",
    "metadata": {"name": "tick", "namespace": "gpu"},
    "spec": {"sink": {"uri": URL}},
}


def source(**spec):
    return PingSource.model_validate({**MANIFEST, "spec": {"sink": {"uri": URL}, **spec}})


def test_the_schedule_is_that_of_the_source():
    cron = parse_cron(source(schedule="TZ=Europe/Berlin 0 9 * * *"), URL, timeout_s=5)
    assert (
        cron.schedule.next_tick_s(datetime(2024, 1, 15, tzinfo=UTC).timestamp())
        == datetime(2024, 1, 15, 8, tzinfo=UTC).timestamp()
    )
    every_minute = parse_cron(PingSource.model_validate(MANIFEST), URL, timeout_s=5)
    assert every_minute.schedule.next_tick_s(30.0) == 60.0


def parse(text):
    return [parse_cron(found, URL, timeout_s=5) for found in parse_manifests(text, "cron.yaml")]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"timezone": "Mars/Olympus"}, "Mars"),
        ({"contentType": "application/json", "data": "[1]"}, "JSON object"),
        ({"contentType": "application/json", "data": "{"}, "not JSON"),
        ({"contentType": "application/json", "data": '{"n": NaN}'}, "NaN"),
        ({"contentType": "application/json", "dataBase64": "WzFd"}, "JSON object"),
        ({"data": "a", "dataBase64": "YQ=="}, "exclude"),
        ({"dataBase64": "Y Q"}, "dataBase64"),
        ({"schedule": "TZ=UTC * * * * *", "timezone": "UTC"}, "another"),
        ({"ceOverrides": {"extensions": {"time": "a"}}}, "'time'"),
        ({"ceOverrides": {"extensions": {"ID": "a"}}}, "'ID'"),
        ({"schedule": "often"}, "5"),
    ],
)
def test_a_source_that_cannot_work_is_named(spec, said):
    text = yaml.safe_dump({**MANIFEST, "spec": {"sink": {"uri": URL}, **spec}})
    with pytest.raises(BadConfig, match=r"tick|^cron.yaml: spec\.") as caught:
        parse(text)
    assert said in caught.value.message


def test_the_event_is_a_binary_cloudevent():
    cron = parse_cron(source(contentType="application/json", data='{"kind": "tick"}'), URL, timeout_s=5)
    assert cron.headers == {"content-type": "application/json"}
    assert cron.source == "/apis/v1/namespaces/gpu/pingsources/tick"
    assert cron.body == b'{"kind": "tick"}'
    assert parse_cron(source(dataBase64="AP8="), URL, timeout_s=5).body == b"\x00\xff"
    assert parse_cron(source(dataBase64="AP\n8=\n"), URL, timeout_s=5).body == b"\x00\xff"


def test_an_event_without_data_or_type_says_no_type():
    for spec in ({"contentType": "text/plain"}, {"data": "a"}):
        assert "content-type" not in parse_cron(source(**spec), URL, timeout_s=5).headers


def test_overrides_become_headers():
    extensions = {
        "team": "a b",
        "rate": '50% of "all"',
        "place": "K\u00f6ln",
        "Plain": "a-_.~:/?#[]@!$&'()*+,;=|{}",
    }
    headers = parse_cron(source(ceOverrides={"extensions": extensions}), URL, timeout_s=5).headers
    assert {
        name: value
        for name, value in headers.items()
        if name.removeprefix("ce-") in {"team", "rate", "place", "plain"}
    } == {
        "ce-team": "a%20b",
        "ce-rate": "50%25%20of%20%22all%22",
        "ce-place": "K%C3%B6ln",
        "ce-plain": "a-_.~:/?#[]@!$&'()*+,;=|{}",
    }


def test_five_retries_then_the_tick_is_lost():
    assert [decide_retry_s(attempt, None) for attempt in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1.6, None]


@pytest.mark.parametrize("status", [404, 413, 425, 429, 502, 503, 504])
def test_a_passing_failure_is_tried_again(status):
    assert decide_retry_s(1, status) == 0.1


@pytest.mark.parametrize("status", [400, 401, 405, 409, 500, 501])
def test_a_lasting_failure_is_not(status):
    assert decide_retry_s(1, status) is None
