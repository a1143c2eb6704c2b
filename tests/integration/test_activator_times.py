"""Through the activator: what takes too long, what comes and goes meanwhile, and the end."""

from __future__ import annotations

import asyncio

import pytest

from tests.functions import free_port
from tests.integration.activating import (
    CHUNKED,
    GET,
    MEASURED,
    PATIENCE_S,
    Held,
    activated,
    hello,
    in_loop,
    until,
)


@pytest.mark.parametrize(
    ("limits", "serve", "text"),
    [
        ({"request_s": 0.1}, None, b"activator request timeout\n"),
        ({"request_s": 0.1}, Held(), b"request timeout\n"),
        ({"response_start_s": 0.1}, Held(), b"request timeout\n"),
        ({"idle_s": 0.1}, Held(), b"request timeout\n"),
    ],
)
@in_loop
async def test_what_takes_too_long_is_said_in_knatives_words(limits, serve, text):
    async with activated(*([serve] if serve else []), **limits) as front:
        head, body = await front.ask()
        assert head.startswith("HTTP/1.1 504 Gateway Timeout\r\n")
        assert body == text
        await front.reach(0)
        assert not serve or await until(lambda: serve.ended)


@pytest.mark.parametrize("limits", [{"request_s": 0.2}, {"idle_s": 0.1}])
@pytest.mark.parametrize("said", [MEASURED, CHUNKED])
@in_loop
async def test_an_answer_that_takes_too_long_is_cut(limits, said):
    async with activated(Held(said), **limits) as front:
        client = await front.connect(GET)
        await client.read_until(b"a\nb")
        assert b"0\r\n" not in await client.read_rest()
        await front.reach(0)


@in_loop
async def test_waiting_does_not_count_as_working():
    """The start of a response, and standing still, are the instance's."""
    async with activated(response_start_s=0.05, idle_s=0.05, request_s=PATIENCE_S) as front:
        asking = asyncio.create_task(front.ask())
        await front.reach(0, 1)
        loop = asyncio.get_running_loop()
        late = loop.time() + 0.2
        await until(lambda: loop.time() > late)
        async with activated(hello) as other:
            front.throttle.open("late", other.instances[0].address)
            assert (await asking)[1] == b"hello\n"
            front.throttle.close("late")


@in_loop
async def test_an_answer_that_has_begun_may_take_its_time():
    async def serve(connection):
        await connection.read_head()
        await connection.send(CHUNKED)
        for _ in range(10):
            await asyncio.sleep(0.05)
            await connection.send(b"1\r\n.\r\n")
        await connection.send(b"0\r\n\r\n")

    async with activated(serve, response_start_s=0.3, idle_s=0.3) as front:
        client = await front.connect(GET)
        await client.read_until(b"0\r\n\r\n")


@in_loop
async def test_a_body_that_keeps_coming_does_not_stand_still():
    async def serve(connection):
        await connection.read_head()
        await connection.answer(await connection.read_exactly(10))

    async with activated(serve, idle_s=0.3) as front:
        client = await front.connect(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.05)
            await client.send(b"x")
        await client.read_until(b"x" * 10)


@in_loop
async def test_an_instance_that_is_closed_finishes_what_it_has():
    go = asyncio.Event()

    async def serve(connection):
        await connection.read_head()
        await go.wait()
        await connection.answer()

    async with activated(serve) as front:
        asking = asyncio.create_task(front.ask())
        await front.reach(1)
        front.throttle.close("tested-0")
        go.set()
        assert (await asking)[1] == b"hello\n"


@in_loop
async def test_closing_lets_requests_under_way_end():
    go = asyncio.Event()

    async def serve(connection):
        await connection.read_head()
        body = await connection.read_exactly(3)
        await go.wait()
        await connection.answer(body)

    async with activated(serve) as front:
        resting = await front.connect()
        client = await front.connect(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na")
        await front.reach(1)
        port = front.activator.port
        closing = asyncio.create_task(front.activator.close(PATIENCE_S))
        assert await resting.read_rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await client.send(b"bc")
        go.set()
        head = await client.read_head()
        assert head.startswith("HTTP/1.1 200")
        assert "Connection: close" in head
        assert await client.read_rest() == b"abc"
        await closing


@in_loop
async def test_closing_cuts_what_does_not_end(caplog):
    async with activated(Held(CHUNKED), concurrency=1) as front:
        begun = await front.connect(GET)
        await begun.read_until(b"a\nb")
        waiting = await front.connect(GET)
        await front.reach(1, 1)
        await front.activator.close(0.05)
        assert b"0\r\n" not in await begun.read_rest()
        assert await waiting.read_rest() == b""
        await front.reach(0)
        await front.activator.close()
    assert [record.getMessage() for record in caplog.records] == ["tested: 2 requests did not end in time"]


@in_loop
async def test_an_instance_that_comes_back_is_asked_again():
    port = free_port()
    async with activated() as front:
        front.throttle.open("gone", ("127.0.0.1", port))
        assert (await front.ask())[0].startswith("HTTP/1.1 502")
        server = await asyncio.start_server(_say_hello, "127.0.0.1", port)
        assert (await front.ask())[1] == b"hello\n"
        server.close()
        await server.wait_closed()


async def _say_hello(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
    writer.close()
    await writer.wait_closed()
