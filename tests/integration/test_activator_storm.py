"""Many requests at once, while instances come and go and clients leave: none is lost, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.activating import Instance, activated, in_loop, until

ASKED = 600
AT_ONCE = 120


class Worker:
    """Serves requests by their number, and counts them; each instance works for a while."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.begun = Counter()

    async def __call__(self, connection):
        while head := await connection.read_head():
            number = head.split()[1].lstrip("/")
            self.begun[number] += 1
            body = await read_body(connection, head)
            for _ in range(self.chance.randrange(3)):
                await asyncio.sleep(self.chance.random() / 200)
            if "Upgrade: websocket" in head:
                await switch(connection)
                return
            await (answer_in_chunks if int(number) % 2 else answer)(connection, number, body)
            if "Connection: close" in head:
                return


async def read_body(connection, head):
    if "Transfer-Encoding: chunked" in head:
        return (await connection.read_until(b"\r\n0\r\n\r\n"))[3:5]
    for line in head.split("\r\n"):
        if line.startswith("Content-Length: "):
            return (await connection.read_exactly(int(line[16:])))[:10]
    return b""


async def answer(connection, number, body):
    await connection.answer(number.encode() + b":" + body)


async def answer_in_chunks(connection, number, body):
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in (number.encode(), b":", body):
        if part:
            await connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        await asyncio.sleep(0)
    await connection.send(b"0\r\n\r\n")


async def switch(connection):
    await connection.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    while data := await connection.reader.read(65536):
        await connection.send(data)


def build(kind, number):
    """Build a request, and what is to come back of its body."""
    start = f"%s /{number} HTTP/1.1\r\nHost: localhost\r\n"
    if kind == "upgrade":
        more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
        return (start % "GET" + more + "\r\n").encode(), b""
    if kind == "chunks":
        return (
            start % "POST" + "Transfer-Encoding: chunked\r\n\r\n"
        ).encode() + b"2\r\nab\r\n0\r\n\r\n", b"ab"
    if kind == "long":
        return (start % "POST" + "Content-Length: 300000\r\n\r\n").encode() + b"x" * 300_000, b"x" * 10
    return (start % "GET" + "\r\n").encode(), b""


class Storm:
    """Asks, leaves, opens and closes by chance."""

    def __init__(self, front, seed, *, leaving):
        self.front = front
        self.chance = random.Random(seed)
        self.worker = Worker(seed)
        self.leaving = leaving
        self.is_calm = False
        self.outcomes = Counter()
        self.instances = {}
        self.numbers = iter(range(10_000))

    async def rage(self):
        places = asyncio.Semaphore(AT_ONCE)
        weather = asyncio.create_task(self.change())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(ASKED):
                    await places.acquire()
                    group.create_task(self.ask(number)).add_done_callback(lambda _: places.release())
            await self.front.reach(0)
        finally:
            self.is_calm = True
            await asyncio.wait([weather])
            for instance in self.instances.values():
                await instance.stop()

    async def ask(self, number):
        kind = self.chance.choice(["short", "short", "chunks", "long", "upgrade"])
        request, expected = build(kind, number)
        client = await self.front.connect()
        try:
            if self.chance.random() < self.leaving:
                with contextlib.suppress(ConnectionError):
                    async with asyncio.timeout(self.chance.random() / 20):
                        await client.send(request)
                        await client.read_until(b"never")
                self.outcomes["left"] += 1
                client.drop()
                return
            await client.send(request)
            outcome = await self.read(client, number, expected)
        except ConnectionError:
            outcome = "cut"
        except TimeoutError:
            outcome = "left"
            client.drop()
        self.outcomes[outcome] += 1
        await client.close()

    async def read(self, client, number, expected):
        status = int((await client.read_head()).split()[1])
        if status == 101:
            await client.send(b"frame")
            assert await client.read_exactly(5) == b"frame"
            return 101
        if status == 200:
            whole = b"%d:%b" % (number, expected)
            read = self.read_chunks(client) if number % 2 else client.read_exactly(len(whole))
            assert await read == whole
        return status

    async def read_chunks(self, client):
        whole = b""
        while size := int(await client.read_until(b"\r\n"), 16):
            whole += (await client.read_exactly(size + 2))[:-2]
        await client.read_exactly(2)
        return whole

    async def change(self):
        """Open and close instances, three at most at a time, sometimes none."""
        while not self.is_calm:
            if len(self.instances) < 3 and (not self.instances or self.chance.random() < 0.6):
                name = f"i{next(self.numbers)}"
                self.instances[name] = await Instance(self.worker).start()
                self.front.throttle.open(name, self.instances[name].address)
            else:
                await self.end(self.chance.choice([*self.instances]))
            await asyncio.sleep(self.chance.random() / 20)

    async def end(self, name):
        """As the runtime does: nothing new, and an end when it has nothing left to do."""
        self.front.throttle.close(name)
        await until(lambda: self.front.throttle.in_flight_of(name) == 0)
        await self.instances.pop(name).stop()


class Crashing(Storm):
    """Instances die instead, with whatever they have."""

    async def end(self, name):
        instance = self.instances.pop(name)
        await instance.stop()
        await asyncio.sleep(self.chance.random() / 100)
        self.front.throttle.close(name)


def open_files():
    return len([*Path("/dev/fd").iterdir()])


@pytest.mark.parametrize("concurrency", [0, 2, 5])
@pytest.mark.parametrize("kind", [Storm, Crashing])
@in_loop
async def test_no_request_is_lost_and_nothing_stays_behind(concurrency, kind):
    files = open_files()
    async with activated(concurrency=concurrency, max_scale=100) as front:
        storm = kind(front, seed=concurrency, leaving=0.2)
        await storm.rage()
        assert not front.activator._under_way
        assert not front.throttle._closing
    assert sum(storm.outcomes.values()) == ASKED
    assert {*storm.outcomes} <= ({200, 101, "left"} if kind is Storm else {200, 101, "left", 502, "cut"})
    assert storm.outcomes[200] > ASKED / (3 if kind is Storm else 10)
    assert max(storm.worker.begun.values()) <= (1 if kind is Storm else 2)
    await until(lambda: open_files() <= files)


@in_loop
async def test_nothing_is_lost_while_the_activator_closes():
    async with activated(concurrency=3) as front:
        storm = Storm(front, seed=1, leaving=0.0)
        instance = await Instance(storm.worker).start()
        clients = [await front.connect(build("long", number)[0]) for number in range(0, 40, 2)]
        await front.reach(0, 20)
        front.throttle.open("only", instance.address)
        await asyncio.gather(
            front.activator.close(20.0),
            *(storm.read(client, 2 * n, b"x" * 10) for n, client in enumerate(clients)),
        )
        await instance.stop()
