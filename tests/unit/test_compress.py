"""Which answers are compressed, and that nothing but their form changes."""

from __future__ import annotations

import gzip
import zlib

import pytest
from flask import Request, Response
from werkzeug.test import EnvironBuilder

from shared.http.compress import LEAST_BYTES, compress

LONG = b'{"data": "' + b"x" * LEAST_BYTES + b'"}'


def answer(body=LONG, accept="gzip", *, method="GET", kind="application/json", status=200, **headers):
    given = {} if accept is None else {"Accept-Encoding": accept}
    request = Request(EnvironBuilder(method=method, headers=given).get_environ())
    response = Response(body, status, headers, content_type=kind)
    compress(request, response)
    return response


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("GZIP", True),
        ("*", True),
        ("br;q=1, gzip;q=0.1", True),
        ("gzip;q=0.5, identity;q=0.6", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("br", False),
        ("", False),
        (None, False),
    ],
)
def test_who_takes_gzip_gets_it(accept, expected):
    response = answer(accept=accept)
    assert ("Content-Encoding" in response.headers) == expected
    assert "accept-encoding" in response.vary
    body = response.get_data()
    assert response.content_length == len(body)
    assert (gzip.decompress(body) if expected else body) == LONG


@pytest.mark.parametrize(
    "how",
    [
        {"body": b"x" * (LEAST_BYTES - 1)},
        {"kind": "application/vnd.apache.parquet"},
        {"kind": "application/vnd.apache.arrow.stream"},
        {"kind": "image/png"},
        {"method": "HEAD"},
        {"status": 304, "body": b""},
        {"Content-Encoding": "br"},
    ],
)
def test_what_would_not_be_the_better_for_it_stays(how):
    response = answer(**how)
    assert response.headers.get("Content-Encoding") == how.get("Content-Encoding")
    assert response.get_data() == how.get("body", LONG)


@pytest.mark.parametrize("kind", ["text/csv; charset=utf-8", "application/x-ndjson", "text/html"])
def test_text_is_compressed(kind):
    assert gzip.decompress(answer(kind=kind).get_data()) == LONG


def test_a_stream_is_compressed_as_it_comes_and_closed():
    said = []

    def pieces():
        try:
            for number in range(200):
                said.append(number)
                yield b"%d," % number * 10_000
        finally:
            said.append("closed")

    response = answer(pieces())
    sent = iter(response.response)
    first = next(sent)
    assert said[-1] < 10
    rest = b"".join(sent)
    assert gzip.decompress(first + rest) == b"".join(b"%d," % n * 10_000 for n in range(200))
    assert said[-1] == "closed"
    response = answer(pieces())
    next(iter(response.response))
    response.close()
    assert said[-1] == "closed"


def test_what_breaks_off_is_no_whole_answer():
    def pieces():
        yield LONG * 100
        raise RuntimeError("gone")

    response, sent = answer(pieces()), []
    with pytest.raises(RuntimeError, match="gone"):
        sent.extend(response.response)
    stream = zlib.decompressobj(31)
    stream.decompress(b"".join(sent))
    assert not stream.eof
