"""Through the activator: whoever leaves, dies, is late, or answers before he has heard everything."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.functions import free_port
from tests.integration.activating import GET, PATIENCE_S, activated, hello, in_loop, until

POST_ALL = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
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
