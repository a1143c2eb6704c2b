"""WebSockets through the activator: a pump of bytes, once a function has agreed."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.activating import PATIENCE_S, activated, fill, in_loop, until
from tests.integration.test_activator import fields, values

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = f"GET /ws?a=%2F HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Mine: 1\r\n\r\n"


class Switching:
    """Agrees, says something at once, and then what it is told to."""

    def __init__(self, then, said=b""):
        self.heads = []
        self._then = then
        self._said = said

    async def __call__(self, connection):
        self.heads.append(await connection.read_head())
        await connection.send(SWITCHED + self._said)
        await self._then(connection)


async def echo(connection):
    while data := await connection.reader.read(65536):
        await connection.send(data)


async def opened(front, early=b""):
    client = await front.connect(UPGRADE + early)
    head = await client.read_head()
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    return client, head


@in_loop
async def test_bytes_pass_whatever_they_are():
    serving = Switching(echo)
    async with activated(serving, concurrency=1) as front:
        client, head = await opened(front)
        assert fields(head) == [
            ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("X-Mine", "1"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
        ]
        for data in (b"\x89\x80abcd", b"\x00\xff" * 50_000, b"GET / HTTP/1.1\r\n\r\n"):
            await client.send(data)
            assert await client.read_exactly(len(data)) == data
        assert front.counters == (1, 0)
        await client.close()
        await front.reach(0)
    [head] = serving.heads
    assert head.startswith("GET /ws?a=%2F HTTP/1.1\r\n")
    assert (values(head, "Connection"), values(head, "Upgrade")) == (["Upgrade"], ["websocket"])
    assert (values(head, "Sec-WebSocket-Key"), values(head, "Sec-WebSocket-Version")) == ([KEY], ["13"])
    assert values(head, "Sec-WebSocket-Extensions") == ["permessage-deflate"]


@in_loop
async def test_what_is_said_at_once_is_not_lost():
    async with activated(Switching(echo, said=b"first")) as front:
        client, _ = await opened(front, early=b"early")
        assert await client.read_exactly(10) == b"firstearly"
        await client.close()


@pytest.mark.parametrize("status", [401, 404, 503])
@in_loop
async def test_a_refusal_arrives_whole_and_the_connection_goes_on(status):
    async def refuse(connection):
        await connection.read_head()
        await connection.answer(b'{"no": 1}', f"{status} No", "Content-Type: application/json")

    async with activated(refuse) as front:
        client = await front.connect(UPGRADE)
        for again in (True, False):
            head = await client.read_head()
            assert head.startswith(
                f"HTTP/1.1 {status} No\r\nContent-Length: 9\r\nContent-Type: application/json\r\n\r\n"
            )
            assert await client.read_exactly(9) == b'{"no": 1}'
            await front.reach(0)
            if again:
                await client.send(UPGRADE)


@pytest.mark.parametrize("how", ["close", "drop"])
@in_loop
async def test_a_client_that_leaves_frees_its_place(how):
    ended = []

    async def wait(connection):
        await connection.read_rest()
        ended.append(1)

    async with activated(Switching(wait), concurrency=1) as front:
        client, _ = await opened(front)
        await client.leave(how)
        await front.reach(0)
        await until(lambda: ended)


@in_loop
async def test_a_function_that_does_not_listen_holds_no_place_of_one_that_left():
    release = asyncio.Event()

    async def deaf(connection):
        connection.reader._transport.pause_reading()
        await release.wait()

    async with activated(Switching(deaf), concurrency=1) as front:
        client, _ = await opened(front)
        await client.send(b"x" * 100_000)
        await client.close()
        await front.reach(0)
        release.set()


@pytest.mark.parametrize("how", ["close", "drop"])
@in_loop
async def test_a_function_that_ends_ends_it(how):
    async def end(connection):
        await connection.send(b"\x88\x02\x03\xe8")
        await (connection.close() if how == "close" else asyncio.sleep(0))
        connection.drop()

    async with activated(Switching(end)) as front:
        client, _ = await opened(front)
        assert await client.read_rest() == b"\x88\x02\x03\xe8"
        await front.reach(0)


@in_loop
async def test_what_a_function_said_last_reaches_a_slow_client():
    async def say_much(connection):
        for _ in range(200):
            await connection.send(b"x" * 100_000)

    async with activated(Switching(say_much)) as front:
        client, _ = await opened(front)
        client.reader._transport.pause_reading()
        loop = asyncio.get_running_loop()
        late = loop.time() + 0.3
        await until(lambda: loop.time() > late)
        client.reader._transport.resume_reading()
        assert len(await client.read_rest()) == 20_000_000


@in_loop
async def test_what_a_client_said_last_reaches_a_slow_function():
    got = []

    async def read_late(connection):
        connection.reader._transport.pause_reading()
        await asyncio.sleep(0.3)
        connection.reader._transport.resume_reading()
        got.append(len(await connection.read_rest()))

    async with activated(Switching(read_late)) as front:
        client, _ = await opened(front)
        for _ in range(50):
            await client.send(b"x" * 100_000)
        await client.close()
        assert await until(lambda: got) == [5_000_000]


@in_loop
async def test_a_slow_reader_holds_who_writes():
    taken = []

    async def say_all(connection):
        taken.append(await fill(connection.writer, b"x" * 100_000))
        connection.drop()

    async def read_nothing(connection):
        connection.reader._transport.pause_reading()
        await until(lambda: len(taken) == 2)

    async with activated(Switching(say_all)) as front:
        client, _ = await opened(front)
        client.reader._transport.pause_reading()
        await until(lambda: taken)
        client.drop()
    async with activated(Switching(read_nothing)) as front:
        client, _ = await opened(front)
        taken.append(await fill(client.writer, b"x" * 100_000))
        client.drop()
    assert max(taken) < 30_000_000


@pytest.mark.parametrize("limits", [{"request_s": 0.2}, {"idle_s": 0.1}])
@in_loop
async def test_a_socket_ends_with_its_time(limits):
    ended = []

    async def wait(connection):
        await connection.read_rest()
        ended.append(1)

    async with activated(Switching(wait), **limits) as front:
        client, _ = await opened(front)
        await client.send(b"x")
        assert await client.read_rest() == b""
        await front.reach(0)
        await until(lambda: ended)


@in_loop
async def test_closing_cuts_sockets_that_stay():
    async with activated(Switching(echo)) as front:
        client, _ = await opened(front)
        await front.activator.close(0.05)
        assert await client.read_rest() == b""
        await front.reach(0)


@in_loop
async def test_a_socket_waits_for_an_instance():
    async with activated(request_s=PATIENCE_S) as front:
        client = await front.connect(UPGRADE)
        await front.reach(0, 1)
        async with activated(Switching(echo)) as other:
            front.throttle.open("late", other.instances[0].address)
            assert (await client.read_head()).startswith("HTTP/1.1 101 ")
            await client.close()
            await front.reach(0)
            front.throttle.close("late")
