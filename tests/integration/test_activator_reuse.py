"""Through the activator: connections that are used again, and answers that are nobody else's."""

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


def serving(*kinds):
    """Serve one connection after the other in these ways; in the last way from then on."""
    ways = iter(kinds)
    last = kinds[-1]

    async def serve(connection):
        await next(ways, last)(connection)

    return serve


async def keep(connection):
    while head := await connection.read_head():
        is_head = head.startswith("HEAD")
        await connection.answer(*((b"", "204 No Content") if is_head else ()))


async def keep_once(connection):
    """Close, as if it had rested for too long, once the next request is here."""
    await hello(connection)
    await connection.read_head()


async def die_saying(connection):
    await hello(connection)
    await connection.read_head()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-")


@in_loop
async def test_connections_are_used_again_for_what_changes_nothing():
    async with activated(keep) as front:
        client = await front.connect()
        for method in (b"GET", b"HEAD", b"OPTIONS", b"GET"):
            await client.send(GET.replace(b"GET", method))
            await client.read_head()
            client.got = b""
            await front.reach(0)
        assert front.instances[0].opened == 1
        # It does not rest for long.
        await until(lambda: not front.instances[0].open)


@in_loop
async def test_what_changes_something_has_a_connection_of_its_own():
    async with activated(keep) as front:
        await front.ask()
        for method in (b"POST", b"PUT", b"DELETE", b"PATCH"):
            await front.ask(GET.replace(b"GET", method))
        await front.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab")
        assert front.instances[0].opened == 6


@in_loop
async def test_a_connection_that_was_closed_meanwhile_is_no_error():
    async with activated(serving(keep_once, keep)) as front:
        for _ in range(3):
            assert (await front.ask())[1] == b"hello\n"
        assert front.instances[0].opened == 2


@in_loop
async def test_a_request_that_kills_is_sent_again_once_and_to_nobody_else():
    async with activated(serving(keep_once, dying()), hello, concurrency=1) as front:
        assert (await front.ask())[1] == b"hello\n"
        assert (await front.ask())[0].startswith("HTTP/1.1 502")
        assert [instance.opened for instance in front.instances] == [2, 0]


@in_loop
async def test_the_answer_that_nobody_waited_for_is_not_the_next_ones():
    async def late(connection):
        await connection.read_head()
        # Another request on the same connection gets the answer to the first.
        await connection.read_head()
        await connection.answer(b"late\n")

    async with activated(serving(late, hello)) as front:
        client = await front.connect(GET)
        await front.reach(1)
        await client.close()
        await front.reach(0)
        assert (await front.ask())[1] == b"hello\n"


@in_loop
async def test_a_request_whose_answer_broke_off_is_not_sent_again():
    async with activated(serving(die_saying, keep)) as front:
        assert (await front.ask())[1] == b"hello\n"
        assert (await front.ask())[0].startswith("HTTP/1.1 502")
        assert front.instances[0].opened == 1


@in_loop
async def test_the_connections_of_an_instance_that_was_closed_do_not_rest():
    go = asyncio.Event()

    async def serve(connection):
        await connection.read_head()
        await go.wait()
        await connection.answer()
        assert await connection.read_rest() == b""

    async with activated(serve) as front:
        asking = asyncio.create_task(front.ask())
        await front.reach(1)
        front.throttle.close("tested-0")
        go.set()
        await asking
        await until(lambda: not front.instances[0].open, timeout_s=0.4)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-", MEASURED, CHUNKED])
@in_loop
async def test_an_answer_that_came_too_late_is_never_that_of_another_request(said):
    late = Held(said)
    async with activated(serving(late, hello), request_s=0.1) as front:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await front.ask()
        await front.reach(0)
        assert (await front.ask())[1] == b"hello\n"
        assert front.instances[0].opened == 2
        await until(lambda: late.ended)


@in_loop
async def test_nor_is_that_of_a_client_that_left():
    late = Held()
    async with activated(serving(late, hello)) as front:
        client = await front.connect(GET)
        await front.reach(1)
        await client.close()
        await front.reach(0)
        assert (await front.ask())[1] == b"hello\n"
        assert front.instances[0].opened == 2
