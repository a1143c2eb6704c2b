"""An activator in front of instances that do what a test has them do, all in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps

from local_runtime.activator import Activator, Limits, Throttle, Timeouts

#: For whatever has to come.
PATIENCE_S = 20.0
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def in_loop(test):
    """Run a test in a loop of its own, in which every task has to end with it."""

    @wraps(test)
    def run(*args, **more):
        async def all_of_it():
            failures = []
            asyncio.get_running_loop().set_exception_handler(lambda _loop, what: failures.append(what))
            async with asyncio.timeout(60):
                await test(*args, **more)
            await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
            assert not failures, failures

        asyncio.run(all_of_it())

    return run


async def until(condition, timeout_s=PATIENCE_S):
    """Ask until the condition holds and return what it answered; fails at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s: {condition}"
        await asyncio.sleep(0.005)
    return value


class Connection:
    """One end of a connection, for raw bytes; what was read is kept."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.got = b""

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read_until(self, text):
        """Read until a text has come since the last call, and return everything to its end."""
        async with asyncio.timeout(PATIENCE_S):
            while text not in self.got:
                data = await self.reader.read(65536)
                if not data:
                    raise ConnectionError(f"ended, without {text!r}: {self.got[-500:]!r}")
                self.got += data
        before, _, self.got = self.got.partition(text)
        return before + text

    async def read_head(self):
        return (await self.read_until(b"\r\n\r\n")).decode("latin-1")

    async def read_exactly(self, size):
        async with asyncio.timeout(PATIENCE_S):
            while len(self.got) < size:
                data = await self.reader.read(65536)
                if not data:
                    raise ConnectionError(f"ended after {len(self.got)} of {size} bytes")
                self.got += data
        data, self.got = self.got[:size], self.got[size:]
        return data

    async def read_rest(self):
        """Read to the end; a reset is one, too."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    self.got += data
        data, self.got = self.got, b""
        return data

    async def is_reset(self):
        """Read to the end, and tell whether that is a reset."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await self.reader.read(65536):
                    pass
        except ConnectionError:
            return True
        return False

    async def answer(self, body=b"hello\n", status="200 OK", *more):
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more, "", ""]
        await self.send("\r\n".join(lines).encode("latin-1") + body)

    def drop(self):
        """Break the connection, as who is killed does."""
        self.writer.transport.abort()

    async def leave(self, how):
        """Go, by closing the connection or by dropping it."""
        if how == "drop":
            self.drop()
        else:
            await self.close()

    async def close(self):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Instance:
    """Serves each connection as it is told; keeps those that are open."""

    def __init__(self, serve):
        self._serve = serve
        self.opened = 0
        self.open = set()
        self.errors = []

    async def start(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()
        return self

    async def _connected(self, reader, writer):
        connection = Connection(reader, writer)
        self.opened += 1
        self.open.add(connection)
        try:
            await self._serve(connection)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception as exc:  # noqa: BLE001  (the test tells it)
            self.errors.append(exc)
        finally:
            self.open.discard(connection)
            await connection.close()

    async def stop(self):
        self._server.close()
        for connection in [*self.open]:
            connection.drop()
        await until(lambda: not self.open)
        await self._server.wait_closed()


@dataclass
class Front:
    """An activator, and whoever asks it."""

    activator: Activator
    instances: list[Instance]
    arrivals: list[int] = field(default_factory=list)
    clients: list[Connection] = field(default_factory=list)

    @property
    def throttle(self):
        return self.activator.throttle

    @property
    def counters(self):
        return self.throttle.in_flight, self.throttle.queued

    async def connect(self, data=b""):
        client = Connection(*await asyncio.open_connection("127.0.0.1", self.activator.port))
        self.clients.append(client)
        if data:
            await client.send(data)
        return client

    async def ask(self, data=GET):
        """Send one request and return its whole answer: head and all that comes until the end."""
        client = await self.connect(data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = await client.read_rest()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode("latin-1"), body

    async def reach(self, in_flight, queued=0):
        await until(lambda: self.counters == (in_flight, queued))


async def fill(writer, data, seconds=0.4):
    """Write until nothing is taken any more for a while; return how much was."""
    taken = 0
    with contextlib.suppress(TimeoutError):
        while True:
            writer.write(data)
            async with asyncio.timeout(seconds):
                await writer.drain()
            taken += len(data)
            assert taken < 100_000_000
    return taken


async def hello(connection):
    await connection.read_head()
    await connection.answer()


@asynccontextmanager
async def activated(*serving, concurrency=0, max_scale=10, **timeouts):
    """Start an activator in front of one instance for each way of serving; all of them end with the block."""
    timeouts = {"request_s": 30.0, "response_start_s": None, "idle_s": None} | timeouts
    limits = Limits(container_concurrency=concurrency, max_scale=max_scale)
    arrivals = []
    throttle = Throttle(limits, on_arrival=lambda: arrivals.append(1))
    activator = Activator("tested", throttle, Timeouts(**timeouts))
    await activator.listen("127.0.0.1", 0)
    front = Front(activator, [await Instance(serve).start() for serve in serving], arrivals)
    for number, instance in enumerate(front.instances):
        throttle.open(f"tested-{number}", instance.address)
    try:
        yield front
        await front.reach(0)
    finally:
        for client in front.clients:
            await client.close()
        await activator.close(0.0)
        for instance in front.instances:
            await instance.stop()
    for instance in front.instances:
        assert not instance.errors, instance.errors


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n"


MEASURED = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na\nb"


class Held:
    """Says what it is told to, and then waits for the connection to end."""

    def __init__(self, said=b""):
        self._said = said
        self.ended = 0

    async def __call__(self, connection):
        try:
            await connection.read_head()
            await connection.send(self._said)
            await connection.read_rest()
        finally:
            self.ended += 1


def dying(said=b""):
    async def serve(connection):
        await connection.read_head()
        await connection.send(said)
        await connection.close()

    return serve


def fields(head):
    """The headers of a head, in order."""
    return [tuple(line.split(": ", 1)) for line in head.split("\r\n")[1:] if line]


def values(head, name):
    return [value for key, value in fields(head) if key.lower() == name.lower()]


class Kept:
    """Keeps the heads it gets, and answers with what it is given."""

    def __init__(self, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
        self.heads = []
        self._answer = answer

    async def __call__(self, connection):
        self.heads.append(await connection.read_head())
        await connection.send(self._answer)


def post(*lines, body=b""):
    return "\r\n".join(["POST / HTTP/1.1", "Host: localhost", *lines, "", ""]).encode() + body
