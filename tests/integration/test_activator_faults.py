"""Through the activator: whoever leaves, dies, is late, or answers before he has heard everything."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.integration.activating import (
    CHUNKED,
    GET,
    MEASURED,
    Held,
    activated,
    dying,
    hello,
    in_loop,
    until,
)

POST_ALL = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"


@in_loop
async def test_a_client_that_leaves_the_queue_is_forgotten():
    async with activated() as front:
        client = await front.connect(GET)
        await front.reach(0, 1)
        await client.close()
        await front.reach(0)


@pytest.mark.parametrize("how", ["close", "drop"])
@pytest.mark.parametrize("said", [b"", MEASURED, CHUNKED])
@in_loop
async def test_a_client_that_leaves_frees_its_place_at_once(said, how):
    held = Held(said)
    async with activated(held, concurrency=1) as front:
        client = await front.connect(GET)
        if said:
            await client.read_until(b"a\nb")
        await front.reach(1)
        await client.leave(how)
        await front.reach(0)
        await until(lambda: held.ended == 1)


@in_loop
async def test_a_client_that_leaves_while_it_sends_frees_its_place():
    held = Held()
    async with activated(held, concurrency=1) as front:
        client = await front.connect(POST_ALL + b"x" * 1000)
        await front.reach(1)
        client.drop()
        await front.reach(0)
        await until(lambda: held.ended == 1)


@in_loop
async def test_the_next_one_gets_the_place_of_one_that_left():
    async with activated(Held(), concurrency=1) as front:
        clients = []
        for number in range(5):
            clients.append(await front.connect(GET))
            await front.reach(1, number)
        for number in range(3, -1, -1):
            await clients.pop(0).close()
            await front.reach(1, number)
        await clients.pop().close()


@pytest.mark.parametrize("said", [MEASURED, CHUNKED])
@in_loop
async def test_an_answer_that_breaks_off_never_looks_whole(said):
    async with activated(dying(said)) as front:
        client = await front.connect(GET)
        await client.read_until(b"a\nb")
        rest = await client.read_rest()
        assert b"0\r\n" not in rest
        assert b"502" not in rest
        await front.reach(0)


@pytest.mark.parametrize("said", [MEASURED, CHUNKED, b"HTTP/1.1 200 OK\r\n\r\na\nb"])
@in_loop
async def test_an_answer_that_breaks_off_is_reset_for_who_knows_no_chunks(said):
    async def serve(connection):
        await connection.read_head()
        await connection.send(said)
        await held.wait()
        # What was sent and not read makes it a reset, as it is when a process is killed.
        connection.drop()

    held = asyncio.Event()
    async with activated(serve) as front:
        client = await front.connect(b"GET / HTTP/1.0\r\n\r\n")
        await client.read_until(b"a\nb")
        if b"Content-Length" not in said:
            reset = asyncio.create_task(client.is_reset())
            _reset_on_close(*front.instances[0].open)
            held.set()
            assert await reset
        held.set()


def _reset_on_close(connection):
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 100 Continue\r\n\r\n"])
@in_loop
async def test_a_function_that_dies_before_its_answer_is_a_502(said):
    async with activated(dying(said), hello, concurrency=1) as front:
        head, body = await front.ask()
        assert head.startswith("HTTP/1.1 502 Bad Gateway\r\n")
        assert body == b"tested-0 broke the connection off before it answered\n"
        # It was sent, so that nobody else gets it.
        assert [instance.opened for instance in front.instances] == [1, 0]


@in_loop
async def test_a_kept_connection_serves_on_after_a_502():
    async with activated(dying()) as front:
        client = await front.connect()
        for _ in range(3):
            await client.send(GET)
            await client.read_until(b"before it answered\n")


@in_loop
async def test_a_body_is_invited_once_its_request_is_let_in():
    async def serve(connection):
        assert "Expect: 100-continue" in await connection.read_head()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.answer(await connection.read_exactly(4))

    async with activated() as front:
        client = await front.connect(EXPECT)
        await front.reach(0, 1)
        async with activated(serve) as other:
            front.throttle.open("late", other.instances[0].address)
            assert await client.read_head() == "HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"body")
            assert (await client.read_head()).startswith("HTTP/1.1 200 OK\r\n")
            assert await client.read_exactly(4) == b"body"
            front.throttle.close("late")


@in_loop
async def test_a_refused_request_is_not_asked_for_its_body():
    async with activated(request_s=0.05) as front:
        client = await front.connect(EXPECT)
        head = await client.read_head()
        assert head.startswith("HTTP/1.1 504 ")
        assert "Connection: close" in head


@in_loop
async def test_a_body_that_came_unasked_needs_no_invitation():
    async def serve(connection):
        await connection.read_head()
        await connection.answer(await connection.read_exactly(4))

    async with activated(serve) as front:
        client = await front.connect(EXPECT + b"body")
        assert (await client.read_head()).startswith("HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("size", [20, 100_000])
@pytest.mark.parametrize("status", ["413 Content Too Large", "401 Unauthorized"])
@in_loop
async def test_an_answer_before_the_body_was_read_arrives_whole(status, size):
    async def serve(connection):
        await connection.read_head()
        await connection.answer(b"n" * size, status, "Connection: close")
        # With what was sent and not read: a reset.
        connection.drop()

    for _ in range(5):
        async with activated(serve) as front:
            client = await front.connect(POST_ALL)
            sending = asyncio.create_task(send_all(client))
            head = await client.read_head()
            assert head.startswith(f"HTTP/1.1 {status}\r\n")
            assert "Connection: close" in head
            assert await client.read_exactly(size) == b"n" * size
            sending.cancel()
            await asyncio.wait([sending])


async def send_all(client):
    with contextlib.suppress(ConnectionError):
        for _ in range(500):
            await client.send(b"x" * 100_000)


@in_loop
async def test_what_is_left_of_a_body_is_taken_after_an_early_answer():
    async with activated(hello) as front:
        client = await front.connect(POST_ALL)
        await client.read_until(b"hello\n")
        await front.reach(0)
        for _ in range(500):
            await client.send(b"x" * 100_000)
        assert await client.read_rest() == b""


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokx",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    ],
)
@in_loop
async def test_an_answer_that_could_be_read_in_two_ways_is_not_passed_on(said):
    async with activated(dying(said)) as front:
        head, body = await front.ask()
        assert head.startswith("HTTP/1.1 502 Bad Gateway\r\n")
        assert body == b"tested-0 gave an answer that is not valid HTTP\n"
