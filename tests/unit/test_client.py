"""Records are read out of an answer as it arrives; what cannot be asked is refused in one sentence."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.cli import run
from local_runtime.ports import find_free_port
from shared.client import Client, iter_records
from shared.errors import BadConfig, InvalidInput, Transient

RECORDS = st.lists(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())))


@given(RECORDS, st.integers(min_value=1, max_value=40), st.booleans())
def test_records_are_the_same_however_the_answer_is_cut(records, size, spaces):
    separators = None if spaces else (",", ":")
    envelope = {"success": True, "data": records, "count": len(records), "next": "x]}"}
    answer = json.dumps(envelope, ensure_ascii=False, separators=separators).encode("utf-8", "surrogatepass")
    parts = (answer[i : i + size] for i in range(0, len(answer), size))
    found, rest = [], {}

    def read():
        rest.update((yield from iter_records(parts)))

    found.extend(read())
    assert (found, rest) == (records, {"count": len(records), "next": "x]}"})


@pytest.mark.parametrize("end", ["", ",", ',"count":2', ',"count":2,"next":nu'])
def test_an_answer_without_its_end_is_no_answer(end):
    with pytest.raises(Transient, match="broke off"):
        list(iter_records(iter([b'{"data":[{},{}]' + end.encode()])))


def test_an_answer_that_breaks_off_is_no_answer():
    records = iter_records(iter([b'{"success":true,"data":[{"a":1},', b'{"a":']))
    assert next(records) == {"a": 1}
    with pytest.raises(Transient, match="broke off"):
        next(records)


def test_an_address_needs_a_scheme():
    with pytest.raises(BadConfig, match="expected http://host:port"):
        Client("127.0.0.1:8080")


def test_nobody_there_is_said_in_one_sentence():
    with pytest.raises(Transient, match="is `gpu-telemetry up` running"):
        Client(f"http://127.0.0.1:{find_free_port()}").read("/health")


@pytest.mark.parametrize(
    ("status", "said"),
    [(502, "x broke off"), (503, "pending request queue full"), (504, "activator request timeout")],
)
def test_what_a_gateway_says_in_place_of_a_function_is_passed_on(status, said):
    with pytest.raises(Transient, match=f"answered {status}: {said}$"):
        Client("http://127.0.0.1:1")._parse(status, said.encode() + b"\n")


@pytest.mark.parametrize("url", ["http://", "http://:80", "https:///x", "http://["])
def test_an_address_without_a_host_is_none(url):
    with pytest.raises(BadConfig, match="expected http://host:port"):
        Client(url).read("/health")


COMMANDS = [
    "dead show", "dead replay", "dead drop --yes", "dead drop --yes 00000000000a-aaaaaaaaaaaa-000001",
    "uploads show", "uploads delete --yes", "telemetry",
]  # fmt: skip


@pytest.mark.parametrize("id_", ["", ".", ".."])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_id_that_would_lead_elsewhere_is_refused_before_anything_is_asked(command, id_, capsys):
    # Where something was asked, the line says that nothing answers.
    status = run([*command.split(), id_, "--url", f"http://127.0.0.1:{find_free_port()}"])
    said = capsys.readouterr().err
    assert (status, len(said.splitlines())) == (1, 1)
    assert f"{id_!r} is not an id" in said


def test_a_file_that_cannot_be_read_is_not_the_servers_fault():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(InvalidInput, match="/proc/self/mem cannot be read: "):
            client.upload(Path("/proc/self/mem"), lambda _bytes: None)


def test_more_uploads_than_can_be_listed_are_a_usage_error(capsys):
    assert run(["uploads", "list", "--limit", "9" * 20]) == 2
    assert "--limit" in capsys.readouterr().err
