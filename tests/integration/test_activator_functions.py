"""Through the activator to functions of functions-framework, with clients that know nothing of either."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import tracemalloc
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import urllib3

from tests.functions import running
from tests.integration.activating import activated, in_loop, until
from tests.integration.sockets import connected

MEGABYTE = 1_000_000


def program():
    command = Path(sys.executable).parent / "functions-framework"
    return [str(command), "--source=tests/integration/tiny_function.py", "--target=tiny", "--host=127.0.0.1"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    where = tmp_path_factory.mktemp("tiny")
    with running("tiny", where, etcd="", prefix="", program=program()) as function:
        yield function


def port_of(function):
    return int(function.url.rpartition(":")[2])


@asynccontextmanager
async def before(function, **limits):
    """An activator in front of a function; in one thread, as in the runtime: clients have theirs."""
    async with activated(**limits) as front:
        front.throttle.open("tiny-0", ("127.0.0.1", port_of(function)))
        yield front


async def ask(front, method, path, **more):
    def call():
        with urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(60)) as http:
            answer = http.request(method, f"http://127.0.0.1:{front.activator.port}{path}", **more)
            return answer.status, answer.data, answer.headers

    return await asyncio.to_thread(call)


@in_loop
async def test_a_function_sees_what_was_asked(tiny):
    async with before(tiny) as front:
        status, body, headers = await ask(front, "DELETE", "/a%2Fb/?c=%20d", headers={"X-Mine": "1"})
        told = json.loads(body)
        assert (status, told["method"], told["target"]) == (200, "DELETE", "/a%2Fb/?c=%20d")
        host = f"127.0.0.1:{front.activator.port}"
        assert {("Host", host), ("X-Mine", "1"), ("K-Proxy-Request", "activator")} <= {
            *map(tuple, told["headers"])
        }
        assert headers["Server"] == "gunicorn"
        assert (await ask(front, "HEAD", "/"))[:2] == (200, b"")
        assert (await ask(front, "GET", "/empty"))[:2] == (204, b"")


@pytest.mark.parametrize("is_chunked", [True, False])
@in_loop
async def test_a_large_body_passes_in_little_memory(tiny, is_chunked):
    parts = [b"x" * MEGABYTE] * 150
    size = len(parts) * MEGABYTE
    headers = {} if is_chunked else {"Content-Length": str(size)}
    async with before(tiny) as front:
        tracemalloc.start()
        try:
            status, body, _ = await ask(front, "POST", "/count", body=iter(parts), headers=headers)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (status, body) == (200, str(size).encode())
        assert peak < 8 * MEGABYTE
        assert front.throttle.read_load(asyncio.get_running_loop().time()).rows == size


@in_loop
async def test_a_large_answer_passes_in_little_memory(tiny):
    def read():
        size = 0
        with urllib3.PoolManager(retries=False) as http:
            url = f"http://127.0.0.1:{front.activator.port}/big"
            with http.request("GET", url, preload_content=False) as answer:
                while part := answer.read1(65536):
                    size += len(part)
        return size

    async with before(tiny) as front:
        tracemalloc.start()
        try:
            assert await asyncio.to_thread(read) == 100 * MEGABYTE
            assert tracemalloc.get_traced_memory()[1] < 8 * MEGABYTE
        finally:
            tracemalloc.stop()


@in_loop
async def test_lines_arrive_as_they_are_said_and_end_with_the_client(tiny):
    async with before(tiny, concurrency=1) as front:
        client = await front.connect(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for number in range(10):
            await client.read_until(f'{{"line": {number}}}\n'.encode())
        assert front.counters == (1, 0)
        await client.close()
        await front.reach(0)


@pytest.mark.parametrize("size", [1000, 50 * MEGABYTE])
@in_loop
async def test_an_early_refusal_arrives(tiny, size):
    async with before(tiny) as front:
        for _ in range(3):
            client = await front.connect(
                f"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
            )
            sending = asyncio.create_task(send(client, size))
            assert (await client.read_head()).startswith("HTTP/1.1 413 ")
            assert await client.read_exactly(10) == b"too large\n"
            sending.cancel()
            await asyncio.wait([sending])


async def send(client, size):
    for _ in range(0, size, 1000):
        await client.send(b"x" * 1000)


@in_loop
async def test_a_process_that_dies_in_an_answer_cuts_it(tmp_path):
    with running("tiny", tmp_path, etcd="", prefix="", program=program()) as function:
        async with before(function) as front:
            client = await front.connect(b"GET /die HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await client.read_until(b"so far\n")
            assert b"0\r\n" not in await client.read_rest()
            await until(lambda: function.process.poll() is not None)
            head, body = await front.ask()
            # Its worker may hold the port for a moment.
            assert (head[:12], body[:6]) == ("HTTP/1.1 502", b"tiny-0")


@in_loop
async def test_requests_share_the_threads_of_a_function(tiny):
    """Eight at a time, as many as it has threads: the others wait before it, not within it."""
    async with before(tiny, concurrency=8) as front:
        clients = [await front.connect(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(8)]
        for client in clients:
            await client.read_until(b'{"line": 3}\n')
        waiting = asyncio.create_task(front.ask(b"GET /empty HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        await front.reach(8, 1)
        await clients[0].close()
        assert (await waiting)[0].startswith("HTTP/1.1 204")
        for client in clients[1:]:
            await client.close()
        await front.reach(0)


@in_loop
async def test_a_websocket_of_query_passes(pipeline):
    def subscribe(url):
        class Function:
            pass

        function = Function()
        function.url = url
        with connected(function) as client:
            answer = client.ask("subscribe")
            assert answer["type"] == "subscribed", answer
            inside.set()
            assert leave.wait(20)

    inside, leave = threading.Event(), threading.Event()
    async with before(pipeline.query) as front:
        url = f"http://127.0.0.1:{front.activator.port}"
        subscribing = asyncio.create_task(asyncio.to_thread(subscribe, url))
        await until(inside.is_set)
        assert front.counters == (1, 0)
        leave.set()
        await subscribing
        await front.reach(0)


@in_loop
async def test_a_refused_websocket_tells_why(pipeline):
    async with before(pipeline.query) as front:
        client = await front.connect(
            b"GET /ws HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = await client.read_head()
        assert head.startswith("HTTP/1.1 403 ")
        length = next(line for line in head.split("\r\n") if line.startswith("Content-Length: "))
        body = await client.read_exactly(int(length.partition(": ")[2]))
        assert json.loads(body)["success"] is False
