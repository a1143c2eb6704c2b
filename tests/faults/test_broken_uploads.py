"""Uploads whose connection breaks midway: what is there was sent, and the whole file again makes it whole."""

from __future__ import annotations

import contextlib
import socket
import struct
from urllib.parse import urlsplit

import pytest

from tests.faults.accounting import Raw, compare, read_all
from tests.faults.fleet import GPUS, csv_of, keys_of
from tests.faults.functions import running_functions
from tests.waiting import wait_until

#: A file of 20 MB in few rows: ten blocks, each a message. Up to six are on their way when it breaks off.
INSTANTS, PADDING = 1600, 1200
RUNS = 4
HEAD = "POST /api/v1/csv/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
CHUNK = 64 * 1024


def announced(body, sent):
    """A request that announces all of its body, and the beginning of it."""
    return [f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode(), body[:sent]]


def chunked(body, sent):
    """A request in chunks that breaks off within one."""
    wire = [b"%x\r\n%b\r\n" % (CHUNK, body[start : start + CHUNK]) for start in range(0, sent, CHUNK)]
    wire[-1] = b"%x\r\n%b" % (CHUNK, body[sent - sent % CHUNK : sent])
    return [f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), *wire]


def send_broken(url, request, *, vanish):
    """Send a request and break off: vanish, or say that no more comes and return the answer's first bytes."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), 30) as connection:
        for piece in request:
            connection.sendall(piece)
        if vanish:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            return connection.recv(4096)
    return b""


def drain(f, raw):
    """Collect until the queue is empty: what broke off may still be publishing."""

    def collected():
        status, answer, _ = f.collect.call("POST", "/collect")
        return status == 200 and answer["data"]["depth"] == 0

    wait_until(collected, 30)
    raw.wait_empty()


@pytest.mark.parametrize("build", [announced, chunked])
def test_an_upload_that_breaks_off(build, etcd_endpoint, prefix, tmp_path, chance, say, scale):
    wanted, partly, answers = set(), [], []
    with running_functions(tmp_path, etcd_endpoint, prefix) as f, Raw([etcd_endpoint], prefix) as raw:
        for run in range(RUNS * scale):
            host = f"broken-{run}"
            body, keys = csv_of(host, 0, INSTANTS, padding=PADDING), keys_of(host, 0, INSTANTS)
            sent = chance.randrange(len(body) * 7 // 10, len(body) - 1)
            answer = send_broken(f.upload.url, build(body, sent), vanish=run % 2 == 0)
            assert not answer.startswith(b"HTTP/1.1 2"), answer
            answers.append(answer[9:12].decode() or "nobody listened")
            wait_until(raw.queue.depth_now)
            drain(f, raw)
            found = read_all(f.query.url)
            part = set(found) - wanted
            assert part <= set(keys[: body.count(b"\n", 0, sent) - 1])
            compare(found, wanted | part)
            partly.append(len(part))
            status, report = f.upload.upload(body)
            assert (status, report["data"]["accepted"]) == (200, INSTANTS * GPUS), report
            drain(f, raw)
            wanted |= set(keys)
            rows = compare(read_all(f.query.url), wanted)
        raw.compare(wanted)
    assert all(partly), partly
    say(
        f"{len(answers)} uploads broken off (answered: {', '.join(answers)}) with {partly} rows of them stored; "
        f"uploaded again: {rows} rows compared"
    )
