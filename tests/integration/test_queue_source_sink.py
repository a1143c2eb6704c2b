"""The queue source as a process: its end, the sink it is told of, who vouches for that, and bad settings."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from functions.collect.sink import Outcome, Sink
from tests.functions import ROOT
from tests.integration.dealing import dealing
from tests.integration.records import publish
from tests.integration.standing_in import StandIn
from tests.waiting import wait_until


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("7", 7.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
    ],
)
def test_the_pause_that_collect_asks_for_is_read(etcd, keys, queue, header, pause_s):
    publish(queue, 1)
    with StandIn(etcd, keys, lambda *_: (503, {"Retry-After": header})) as collect:
        outcome = Sink(collect.url).post(queue.list_ready())
    assert outcome == Outcome(failure="collect answered 503", retry_after_s=pause_s)


def test_the_pause_until_a_date(etcd, keys, queue):
    publish(queue, 1)
    date = format_datetime(datetime(2100, 1, 1, tzinfo=UTC), usegmt=True)
    with StandIn(etcd, keys, lambda *_: (429, {"Retry-After": date})) as collect:
        assert Sink(collect.url).post(queue.list_ready()).retry_after_s > 3600


@contextlib.contextmanager
def process(etcd_endpoint, prefix, tmp_path, sink, **environment):
    log = tmp_path / "queue-source.log"
    with log.open("wb") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", "functions.collect.queue_source"],
            cwd=ROOT,
            env={
                "PATH": "/usr/bin:/bin",
                "ETCD_ENDPOINTS": etcd_endpoint,
                "MESSAGE_QUEUE_PREFIX": prefix,
                "K_SINK": sink,
                "POLL_INTERVAL": "1h",
                **environment,
            },
            stdout=out,
            stderr=out,
        )
    try:
        yield running, log
    finally:
        running.kill()
        running.wait()


def test_at_sigterm_requests_under_way_are_waited_for(etcd, keys, queue, etcd_endpoint, prefix, tmp_path):
    asked = threading.Event()

    def answer(_number, _ids):
        asked.wait(20)
        return 204

    with (
        StandIn(etcd, keys, answer) as collect,
        process(etcd_endpoint, prefix, tmp_path, collect.url) as (running, log),
    ):
        publish(queue, 1)
        wait_until(lambda: collect.at_once == 1)
        running.send_signal(signal.SIGTERM)
        threading.Timer(0.5, asked.set).start()
        assert running.wait(15) == 0
        assert queue.depth_now() == 0
    actions = [json.loads(line).get("action") for line in log.read_text().splitlines()]
    assert actions == ["started"]


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that vouches for itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=collect "
            f"-addext subjectAltName=IP:127.0.0.1 -out {paths[0]} -keyout {paths[1]}"
        ).split(),
        check=True,
        capture_output=True,
    )
    return paths


def test_the_sink_is_as_knative_says(etcd, keys, queue, etcd_endpoint, prefix, tmp_path, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    extensions = {"extensions": {"team": "gpu ops", "tier": "1"}}
    with (
        StandIn(etcd, keys, ssl_context=context) as collect,
        process(
            etcd_endpoint,
            prefix,
            tmp_path,
            collect.url,
            K_CA_CERTS=certificate[0].read_text(),
            K_CE_OVERRIDES=json.dumps(extensions),
        ),
    ):
        publish(queue, 1)
        wait_until(lambda: len(collect.taken) == 1)
    headers = {name.lower(): value for name, value in collect.events[0][0].items()}
    assert (headers["ce-team"], headers["ce-tier"]) == ("gpu%20ops", "1")


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(etcd, keys, queue, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with (
        StandIn(etcd, keys, ssl_context=context) as collect,
        dealing(queue, collect.url) as source,
    ):
        publish(queue, 1)
        wait_until(lambda: source.dealings().failed > 0)
        assert not collect.events


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"K_SINK": ""}, "K_SINK is not set"),
        ({"K_SINK": "collect:8080"}, "K_SINK='collect:8080'"),
        ({"K_SINK": "ftp://collect"}, "K_SINK"),
        ({"K_CE_OVERRIDES": "{"}, "K_CE_OVERRIDES is not JSON"),
        ({"K_CE_OVERRIDES": '{"extensions": {"team": 1}}'}, "K_CE_OVERRIDES"),
        ({"K_CE_OVERRIDES": '{"extensions": {"a-team": "a"}}'}, "'a-team'"),
        ({"K_CA_CERTS": "not a certificate"}, "K_CA_CERTS"),
    ],
)
def test_what_cannot_be_used_ends_the_start_with_one_line(etcd_endpoint, prefix, tmp_path, environment, said):
    sink = environment.pop("K_SINK", "http://127.0.0.1:1")
    with process(etcd_endpoint, prefix, tmp_path, sink, **environment) as (running, log):
        assert running.wait(15) == 1
    assert said in log.read_text()
    assert log.read_text().count("\n") == 1
