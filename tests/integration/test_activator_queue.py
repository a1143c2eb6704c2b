"""Through the activator: rows that are counted, requests that wait or are refused, instances that are away."""

from __future__ import annotations

import asyncio
import socket

import pytest

from local_runtime.activator import Activator, Limits, Throttle, Timeouts
from tests.functions import free_port
from tests.integration.activating import (
    GET,
    Kept,
    activated,
    hello,
    in_loop,
    post,
    values,
)


@pytest.mark.parametrize(("header", "rows"), [("12", 12), ("0", 0), ("x", 0), ("-1", 0), ("9" * 20, 0)])
@in_loop
async def test_rows_are_counted(header, rows):
    async with activated(
        Kept(f"HTTP/1.1 200 OK\r\nX-Rows: {header}\r\nContent-Length: 0\r\n\r\n".encode())
    ) as front:
        assert header in (await front.ask())[0]
        await front.ask()
        load = front.throttle.read_load(asyncio.get_running_loop().time())
    assert (load.rows, load.requests) == (2 * rows, 2)
    assert load.concurrency > 0


@in_loop
async def test_requests_wait_for_an_instance_and_say_so():
    async with activated() as front:
        tasks = [asyncio.create_task(front.ask()) for _ in range(5)]
        await front.reach(0, 5)
        assert len(front.arrivals) == 5
        async with activated(hello) as other:
            front.throttle.open("late", other.instances[0].address)
            assert [body for _, body in await asyncio.gather(*tasks)] == [b"hello\n"] * 5
            front.throttle.close("late")


@in_loop
async def test_a_full_queue_is_said_in_knatives_words():
    release = asyncio.Event()

    async def serve(connection):
        await connection.read_head()
        await release.wait()
        await connection.answer()

    async with activated(serve, concurrency=1, max_scale=1) as front:
        tasks = [asyncio.create_task(front.ask()) for _ in range(11)]
        await front.reach(1, 10)
        head, body = await front.ask()
        assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
        assert values(head, "Content-Type") == ["text/plain; charset=utf-8"]
        assert body == b"pending request queue full\n"
        release.set()
        assert [body for _, body in await asyncio.gather(*tasks)] == [b"hello\n"] * 11


@in_loop
async def test_another_revisions_throttle_takes_over():
    async with (
        activated(hello) as front,
        activated(Kept(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew")) as other,
    ):
        assert (await front.ask())[1] == b"hello\n"
        front.activator.throttle = other.throttle
        assert (await front.ask())[1] == b"new"


@in_loop
async def test_a_defect_is_answered_and_logged(caplog):
    def fail():
        raise ZeroDivisionError

    activator = Activator(
        "tested",
        Throttle(Limits(container_concurrency=1, max_scale=1), on_arrival=fail),
        Timeouts(request_s=5),
    )
    await activator.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", activator.port)
    for _ in range(2):
        writer.write(GET)
        assert await reader.readuntil(b"\r\n\r\ninternal error\n")
    writer.close()
    await writer.wait_closed()
    await activator.close(0)
    assert [record.action for record in caplog.records] == ["crash"] * 2


@in_loop
async def test_a_port_that_is_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        throttle = Throttle(Limits(container_concurrency=1, max_scale=1), on_arrival=lambda: None)
        activator = Activator("tested", throttle, Timeouts(request_s=5))
        with pytest.raises(OSError, match="address already in use"):
            await activator.listen("127.0.0.1", taken.getsockname()[1])
        await activator.close()


@in_loop
async def test_an_instance_that_cannot_be_connected_to_is_said_so():
    async with activated() as front:
        front.throttle.open("gone", ("127.0.0.1", free_port()))
        head, body = await front.ask(post("Content-Length: 0"))
        assert head.startswith("HTTP/1.1 502 Bad Gateway\r\n")
        assert body == b"gone cannot be connected to\n"


@in_loop
async def test_another_instance_gets_what_was_not_sent():
    async with activated(hello, concurrency=1) as front:
        front.throttle.close("tested-0")
        front.throttle.open("gone", ("127.0.0.1", free_port()))
        front.throttle.open("tested-0", front.instances[0].address)
        for _ in range(3):
            head, body = await front.ask(post("Content-Length: 2", body=b"ab"))
            assert (head[:15], body) == ("HTTP/1.1 200 OK", b"hello\n")
