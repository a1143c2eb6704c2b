"""Through the activator: what passes, what is added, and who is told what where there is no answer."""

from __future__ import annotations

import asyncio
import gzip
import re

import pytest

from tests.integration.activating import (
    GET,
    Kept,
    activated,
    fields,
    fill,
    hello,
    in_loop,
    post,
    until,
    values,
)


@pytest.mark.parametrize(
    "target",
    ["/", "/a%2Fb", "//a//", "/a;b=c;d", "/ü?ä=ö", "/%C3%BC", "/a?b=%20+&&=;#f", '/a|b"c', "/../a/./b", "*", "/?", "http://localhost/a"],
)  # fmt: skip
@in_loop
async def test_a_path_passes_byte_for_byte(target):
    kept = Kept()
    async with activated(kept) as front:
        method = "OPTIONS" if target == "*" else "GET"
        await front.ask(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert kept.heads[0].split("\r\n")[0].encode("latin-1") == f"{method} {target} HTTP/1.1".encode()


@in_loop
async def test_paths_beyond_ascii_pass_one_after_the_other():
    kept = Kept()
    async with activated(kept) as front:
        client = await front.connect()
        for name in ("ä", "b", "%C3%A4", "ö"):
            await client.send(f"GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await client.read_head()
    paths = [head.encode("latin-1").split()[1].decode() for head in kept.heads]
    assert paths == ["/ä", "/b", "/%C3%A4", "/ö"]


@in_loop
async def test_headers_pass_as_they_are():
    kept = Kept()
    lines = [
        "x-Odd-CASE: 1",
        "Cookie: a=b",
        "X-Odd-Case: 2",
        "cookie: c",
        "Accept-Encoding: br",
        "X-Empty: ",
        "X-Name: ü",
    ]
    async with activated(kept) as front:
        await front.ask("\r\n".join(["GET / HTTP/1.1", "Host: Example.org:81", *lines, "", ""]).encode())
    assert [f"{key}: {value}" for key, value in fields(kept.heads[0].encode("latin-1").decode())][
        : 1 + len(lines)
    ] == [
        "Host: Example.org:81",
        *lines,
    ]
    assert not values(kept.heads[0], "User-Agent")
    assert not values(kept.heads[0], "Accept")


@in_loop
async def test_what_concerns_one_connection_stays_there():
    kept = Kept()
    own = ["Connection: keep-alive, X-Mine, Host, X-Forwarded-For", "Keep-Alive: 5", "X-Mine: 1", "TE: gzip", "Trailer: x", "Proxy-Authorization: p", "Upgrade: h2c", "X-Forwarded-For: 1.2.3.4"]  # fmt: skip
    async with activated(kept) as front:
        await front.ask(post(*own, "Content-Length: 0"))
    head = kept.heads[0]
    assert {key for key, _ in fields(head)} == {
        "Host", "Content-Length", "Connection", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "K-Proxy-Request", "traceparent",
    }  # fmt: skip
    assert (values(head, "Connection"), values(head, "X-Forwarded-For")) == (
        ["close"],
        ["1.2.3.4, 127.0.0.1"],
    )


@in_loop
async def test_an_answer_passes_as_it_is():
    answer = gzip.compress(b"hello")
    lines = ["HTTP/1.1 299 Quite so", "Server: mine", "Date: once", "content-ENCODING: gzip", "Set-Cookie: a", "Set-Cookie: b", f"Content-Length: {len(answer)}"]  # fmt: skip
    own = ["Connection: close, X-Mine", "X-Mine: 1", "Keep-Alive: 5"]
    async with activated(Kept("\r\n".join([*lines, *own, "", ""]).encode() + answer)) as front:
        client = await front.connect(GET)
        head = await client.read_head()
        assert head == "\r\n".join([*lines, "", ""])
        assert await client.read_exactly(len(answer)) == answer


FORWARDED = [
    ([], "127.0.0.1", 'for=127.0.0.1;host="localhost";proto=http'),
    (["X-Forwarded-For: 1.2.3.4"], "1.2.3.4, 127.0.0.1", 'for=1.2.3.4, for=127.0.0.1;host="localhost";proto=http'),
    (["X-Forwarded-For: 1.2.3.4, ::1", 'X-Forwarded-For: x"y'], '1.2.3.4, ::1, x"y, 127.0.0.1', 'for=1.2.3.4, for="[::1]", for="xy", for=127.0.0.1;host="localhost";proto=http'),
    (["Forwarded: for=9.9.9.9"], "127.0.0.1", 'for=9.9.9.9, for=127.0.0.1;host="localhost";proto=http'),
    (["X-Forwarded-Proto: https"], "127.0.0.1", 'for=127.0.0.1;host="localhost";proto=https'),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "forwarded_for", "forwarded"), FORWARDED)
@in_loop
async def test_a_function_is_told_who_asks(lines, forwarded_for, forwarded):
    kept = Kept()
    async with activated(kept) as front:
        await front.ask(post(*lines, "K-Proxy-Request: other", "Content-Length: 0"))
    head = kept.heads[0]
    assert values(head, "X-Forwarded-For") == [forwarded_for]
    assert values(head, "Forwarded") == [forwarded]
    assert values(head, "X-Forwarded-Proto") == ["https" if "https" in forwarded else "http"]
    assert values(head, "K-Proxy-Request") == ["activator"]


TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ([TRACE], True),
        (["01" + TRACE[2:] + "-more"], True),
        ([], False),
        ([TRACE, TRACE], False),
        (["ff" + TRACE[2:]], False),
        ([TRACE + "-more"], False),
        ([TRACE.upper()], False),
        (["00-" + "0" * 32 + TRACE[35:]], False),
        (["nonsense"], False),
    ],
)
@in_loop
async def test_a_trace_goes_on_or_begins(given, passes):
    kept = Kept()
    async with activated(kept) as front:
        await front.ask(
            post(*(f"Traceparent: {one}" for one in given), "tracestate: a=1", "Content-Length: 0")
        )
    [trace] = values(kept.heads[0], "traceparent")
    assert (trace in given) == passes
    assert re.fullmatch("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-more)?", trace)
    assert values(kept.heads[0], "tracestate") == (["a=1"] if passes else [])


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        ("HEAD", "200 OK\r\nContent-Length: 5", ["Content-Length: 5"]),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", []),
        ("GET", "204 No Content", []),
        ("GET", "304 Not Modified\r\nETag: x\r\nContent-Length: 5", ["ETag: x", "Content-Length: 5"]),
        ("GET", "200 OK\r\nContent-Length: 0", ["Content-Length: 0"]),
    ],
)
@in_loop
async def test_answers_without_a_body(method, answer, expected):
    async with activated(Kept(f"HTTP/1.1 {answer}\r\n\r\n".encode())) as front:
        client = await front.connect()
        for _ in range(2):
            await client.send(f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await client.read_head()
            assert head.split("\r\n")[1:-2] == expected
        assert client.got == b""


@in_loop
async def test_bodies_pass_piece_by_piece_both_ways():
    async def echo(connection):
        head = await connection.read_head()
        assert values(head, "Transfer-Encoding") == ["chunked"]
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            assert await connection.read_until(b"\r\n") == b"3\r\n"
            piece = await connection.read_until(b"\r\n")
            await connection.send(b"3\r\n" + piece)
        assert await connection.read_until(b"\r\n\r\n") == b"0\r\n\r\n"
        await connection.send(b"0\r\n\r\n")

    async with activated(echo) as front:
        client = await front.connect(post("Transfer-Encoding: chunked"))
        assert values(await client.read_head(), "Transfer-Encoding") == ["chunked"]
        for piece in (b"a\nb", b"c\nd", b"e\nf"):
            await client.send(b"3\r\n" + piece + b"\r\n")
            assert await client.read_until(piece + b"\r\n") == b"3\r\n" + piece + b"\r\n"
        await client.send(b"0\r\n\r\n")
        assert await client.read_until(b"0\r\n\r\n") == b"0\r\n\r\n"


@pytest.mark.parametrize("is_whole", [True, False])
@in_loop
async def test_chunks_pass_as_chunks(is_whole):
    async def serve(connection):
        assert values(await connection.read_head(), "Content-Length") == []
        body = await connection.read_until(b"0\r\n\r\n")
        await connection.answer(body.replace(b"\r\n", b" "))

    async with activated(serve) as front:
        head, rest = post("Transfer-Encoding: chunked"), b"2;x=y\r\nab\r\n0\r\nTrailer: x\r\n\r\n"
        client = await front.connect(head + rest if is_whole else head)
        if not is_whole:
            await front.reach(1)
            await client.send(rest)
        await client.read_head()
        assert await client.read_exactly(8) == b"2 ab 0  "


@in_loop
async def test_who_sends_is_held_where_a_function_does_not_read():
    release = asyncio.Event()

    async def serve(connection):
        await connection.read_head()
        connection.reader._transport.pause_reading()
        await release.wait()

    async with activated(serve) as front:
        client = await front.connect(post("Content-Length: 1000000000"))
        assert await fill(client.writer, b"x" * 100_000) < 30_000_000
        client.drop()
        release.set()


@in_loop
async def test_a_function_is_held_where_a_client_does_not_read():
    taken = []

    async def serve(connection):
        await connection.read_head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        taken.append(await fill(connection.writer, b"x" * 100_000))
        connection.drop()

    async with activated(serve) as front:
        client = await front.connect(GET)
        client.reader._transport.pause_reading()
        assert await until(lambda: taken) < [30_000_000]
        client.drop()


@in_loop
async def test_one_connection_serves_many_requests_also_sent_at_once():
    kept = Kept(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    async with activated(kept) as front:
        body = b"a" * 5
        client = await front.connect((post("Content-Length: 5", body=body) + GET) * 10)
        for _ in range(20):
            assert "\r\nConnection" not in await client.read_head()
            assert await client.read_exactly(2) == b"ok"
    assert len(kept.heads) == 20


@pytest.mark.parametrize(
    ("lines", "answer", "expected"),
    [
        ("GET / HTTP/1.0", "Content-Length: 2\r\n\r\nok", "Content-Length: 2\r\n\r\nok"),
        ("GET / HTTP/1.0", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "\r\nok"),
        ("GET / HTTP/1.0", "\r\nok", "\r\nok"),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close", "\r\nok", "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ],
)  # fmt: skip
@in_loop
async def test_answers_end_as_the_client_understands(lines, answer, expected):
    async with activated(Kept(f"HTTP/1.1 200 OK\r\n{answer}".encode())) as front:
        client = await front.connect(f"{lines}\r\n\r\n".encode())
        assert await client.read_rest() == f"HTTP/1.1 200 OK\r\n{expected}".encode()


@in_loop
async def test_an_old_client_may_keep_its_connection():
    async with activated(Kept(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as front:
        client = await front.connect()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert values(await client.read_head(), "Connection") == ["keep-alive"]
            await client.read_exactly(2)


NONSENSE = {
    "both lengths": post("Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "two lengths": post("Content-Length: 3", "Content-Length: 4", body=b"abcd"),
    "a length that is none": post("Content-Length: +3", body=b"abc"),
    "another encoding": post("Transfer-Encoding: gzip, chunked, identity", body=b"0\r\n\r\n"),
    "a name with a space": post("Content-Length : 3", body=b"abc"),
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "no request": b"\x16\x03\x01\x02\x00nonsense\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n b\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x00\r\n\r\n",
    "a version of the future": b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
@in_loop
async def test_what_could_be_read_in_two_ways_is_refused(name):
    async with activated(hello) as front:
        client = await front.connect(NONSENSE[name])
        answer = await client.read_rest()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"\r\n\r\n400 Bad Request\n")
        assert front.instances[0].opened == 0


@pytest.mark.parametrize("chunks", [b"x\r\n", b"2\r\nabc\r\n0\r\n\r\n", b"-1\r\n"])
@in_loop
async def test_a_body_that_is_none_is_refused_and_not_believed(chunks):
    async def serve(connection):
        await connection.read_head()
        assert b"\r\n0\r\n" not in await connection.read_rest()

    async with activated(serve) as front:
        client = await front.connect(post("Transfer-Encoding: chunked"))
        await front.reach(1)
        await client.send(b"1\r\na\r\n" + chunks)
        answer = await client.read_rest()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"the body of the request is not a valid one\n")


@in_loop
async def test_a_large_head_passes():
    kept = Kept()
    async with activated(kept) as front:
        lines = [f"X-{number}: {'x' * 500}" for number in range(150)] + [f"X-Long: {'y' * 60_000}"]
        head = "\r\n".join(["GET /" + "z" * 60_000 + " HTTP/1.1", "Host: localhost", *lines, "", ""])
        answer, _ = await front.ask(head.encode())
    assert answer.startswith("HTTP/1.1 200")
    assert len(kept.heads[0]) > len(head)


@in_loop
async def test_a_head_that_does_not_come_holds_nothing():
    async with activated(hello, concurrency=1) as front:
        slow = await front.connect(GET[:-2])
        head, body = await front.ask()
        assert (head[:15], body) == ("HTTP/1.1 200 OK", b"hello\n")
        assert front.instances[0].opened == 1
        await slow.send(b"\r\n")
        await slow.read_until(b"hello\n")
