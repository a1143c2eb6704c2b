"""Posting ticks to real servers: the event, its retries, what becomes of a tick nobody takes, and the end."""

from __future__ import annotations

import asyncio
import threading
import uuid
from datetime import datetime

import pytest

from local_runtime import triggers
from local_runtime.manifests import PingSource
from local_runtime.triggers import Poster, parse_cron
from tests.functions import free_port
from tests.integration.activating import in_loop, until
from tests.serving import Handler, Server


class Function(Server):
    """Answers events with the statuses it is given, the last one again and again; may hold them back."""

    def __init__(self, statuses):
        self.events = []
        self.answering = threading.Event()
        self.answering.set()
        self.at_once = 0
        function = self

        class Taking(Handler):
            def serve(self):
                body = self.read_body()
                headers = {name.lower(): value for name, value in self.headers.items()}
                function.events.append((headers, body))
                number = len(function.events)
                function.at_once += 1
                function.answering.wait(30)
                function.at_once -= 1
                self.send_response(statuses[min(number, len(statuses)) - 1])
                self.end_headers()

        super().__init__(Taking)

    def __exit__(self, *exc):
        self.answering.set()
        super().__exit__(*exc)


class Posting(list):
    """What is reported of ticks, and the poster that does."""

    async def __aenter__(self):
        self.poster = Poster(lambda name, text: self.append((name, text)))
        self.fire = self.poster.fire
        return self

    async def __aexit__(self, *_exc):
        self.poster.stop()
        await self.poster.close()


def cron(url, **spec):
    manifest = {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": {"name": "tick", "namespace": "gpu"},
        "spec": {"sink": {"uri": url}, **spec},
    }
    return parse_cron(PingSource.model_validate(manifest), url, timeout_s=20)


@in_loop
async def test_a_tick_is_a_binary_cloudevent():
    data = {"contentType": "application/json", "data": '{"kind": "tick"}'}
    with Function([204]) as function:
        async with Posting() as posting:
            for _ in range(2):
                posting.fire(cron(function.url, **data, ceOverrides={"extensions": {"team": "gpu"}}))
            await until(lambda: len(function.events) == 2)
        for headers, body in function.events:
            assert body == b'{"kind": "tick"}'
            assert headers["content-type"] == "application/json"
            assert headers["ce-specversion"] == "1.0"
            assert headers["ce-type"] == "dev.knative.sources.ping"
            assert headers["ce-source"] == "/apis/v1/namespaces/gpu/pingsources/tick"
            assert headers["ce-team"] == "gpu"
            assert uuid.UUID(headers["ce-id"]).version == 4
            assert datetime.fromisoformat(headers["ce-time"]).tzinfo is not None
        assert len({headers["ce-id"] for headers, _ in function.events}) == 2
    assert posting == []


@in_loop
async def test_an_event_without_data_says_no_type():
    with Function([204]) as function:
        async with Posting() as posting:
            posting.fire(cron(function.url))
            await until(lambda: function.events)
    headers, body = function.events[0]
    assert (body, headers["content-length"]) == (b"", "0")
    assert "content-type" not in headers


@in_loop
async def test_a_tick_is_tried_again_as_the_same_event():
    with Function([503, 404, 429, 204]) as function:
        async with Posting() as posting:
            posting.fire(cron(function.url))
            await until(lambda: len(function.events) == 4)
        assert len({(headers["ce-id"], headers["ce-time"]) for headers, _ in function.events}) == 1
    assert posting == []


@pytest.mark.parametrize("status", [500, 400, 302])
@in_loop
async def test_a_tick_that_is_refused_is_lost_at_once(status):
    with Function([status]) as function:
        async with Posting() as posting:
            posting.fire(cron(function.url))
            await until(lambda: posting)
        assert posting == [("tick", f"tick lost after 1 attempt: {function.url} answered {status}")]
        assert len(function.events) == 1


@in_loop
async def test_a_tick_that_nobody_takes_is_lost_after_six_attempts():
    with Function([503]) as function:
        async with Posting() as posting:
            posting.fire(cron(function.url))
            await until(lambda: posting)
        assert posting == [("tick", f"tick lost after 6 attempts: {function.url} answered 503")]
        assert len(function.events) == 6


@in_loop
async def test_a_function_that_is_not_there_is_tried_again():
    async with Posting() as posting:
        posting.fire(cron(f"http://127.0.0.1:{free_port()}"))
        await until(lambda: posting)
    assert "tick lost after 6 attempts" in posting[0][1]


@in_loop
async def test_ticks_overlap():
    with Function([204]) as function:
        function.answering.clear()
        async with Posting() as posting:
            for _ in range(3):
                posting.fire(cron(function.url))
            await until(lambda: function.at_once == 3)
    assert posting == []


@in_loop
async def test_a_function_that_hangs_is_given_so_many_ticks_and_no_more():
    with Function([204]) as function:
        function.answering.clear()
        async with Posting() as posting:
            for _ in range(triggers.MOST_UNDER_WAY + 1):
                posting.fire(cron(function.url))
            assert len(posting) == 1
            assert "have not been answered" in posting[0][1]


@in_loop
async def test_once_stopped_no_attempt_is_made_and_requests_under_way_go_on():
    with Function([503]) as function:
        function.answering.clear()
        async with Posting() as posting:
            posting.fire(cron(function.url))
            await until(lambda: function.at_once == 1)
            posting.poster.stop()
            posting.fire(cron(function.url))
            function.answering.set()
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        assert len(function.events) == 1
    assert posting == []
