"""What `gpu-telemetry trigger` sends, and what it says of the answer: a real server, which keeps what it got."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from local_runtime.cli import cli
from local_runtime.commands.trigger import find_url
from local_runtime.running import announce, lock_data_dir, signed
from shared.errors import InvalidInput, NotFound, Transient
from tests.serving import Handler, Server


@pytest.fixture
def function():
    """A function that keeps what it is sent and answers what it is told to."""
    got = []

    class Taking(Handler):
        def serve(self):
            body = self.read_body()
            got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.answer(*server.answers)

    with Server(Taking) as server:
        server.answers = (204, b"")
        server.got = got
        yield server


def trigger(*arguments, standard_input=None, **environment):
    return CliRunner().invoke(
        cli, ["trigger", *arguments], input=standard_input, env=environment, standalone_mode=False
    )


def test_a_tick_is_what_a_ping_source_sends(function):
    done = trigger("collect", "--url", function.url)
    assert done.return_value == 0
    [(path, headers, body)] = function.got
    assert path == "/"
    assert json.loads(body) == {"kind": "tick"}
    assert headers["ce-type"] == "dev.knative.sources.ping"
    assert (headers["ce-specversion"], headers["content-type"]) == ("1.0", "application/json")
    assert headers["ce-time"].endswith("Z")
    assert "authorization" not in headers
    assert headers["ce-id"] in done.stdout
    assert "204 No Content after" in done.stdout


def test_each_event_has_an_id_of_its_own_unless_it_is_given(function):
    trigger("collect", "--url", function.url)
    trigger("collect", "--url", function.url)
    trigger("collect", "--url", function.url, "--id", "mine", "--type", "t", "--source", "/s")
    first, second, third = (headers for _, headers, _ in function.got)
    assert first["ce-id"] != second["ce-id"]
    assert (third["ce-id"], third["ce-type"], third["ce-source"]) == ("mine", "t", "/s")


def test_data_is_taken_as_it_is_from_a_file_or_standard_input(function, tmp_path):
    file = tmp_path / "data.json"
    file.write_text('{"a" :  1}')
    trigger("collect", "--url", function.url, "--data", f"@{file}")
    trigger("collect", "--url", function.url, "--data", "-", standard_input="[1]")
    trigger("collect", "--url", function.url, "--data", "null")
    assert [body for _, _, body in function.got] == [b'{"a" :  1}', b"[1]", b"null"]


@pytest.mark.parametrize("data", ["{", "", "@/no/such/file", "{'a': 1}", "NaNa"])
def test_what_is_not_json_is_not_sent(function, data):
    failed = trigger("collect", "--url", function.url, "--data", data).exception
    assert isinstance(failed, InvalidInput)
    assert "\n" not in failed.message
    assert function.got == []


def test_the_token_goes_along(function):
    token = "t" * 20
    trigger("collect", "--url", function.url, GPU_TELEMETRY_TOKEN=token)
    trigger("collect", "--url", function.url, "--token", "u" * 20, GPU_TELEMETRY_TOKEN=token)
    assert [headers["authorization"] for _, headers, _ in function.got] == [
        f"Bearer {token}",
        "Bearer " + "u" * 20,
    ]


def test_an_error_is_shown_and_is_status_one(function):
    function.answers = (503, b'{"success": false, "error": {"code": "unavailable"}}')
    done = trigger("collect", "--url", function.url)
    assert done.return_value == 1
    assert "503 Service Unavailable" in done.stdout
    assert '"code": "unavailable"' in done.stdout
    said = json.loads(trigger("collect", "--url", function.url, "--json").stdout)
    assert (said["success"], said["data"]["status"]) == (False, 503)
    assert said["data"]["body"]["error"]["code"] == "unavailable"


def test_an_answer_that_is_no_json_is_shown_as_text_that_does_no_harm(function):
    function.answers = (200, b"fine\x1b[2J")
    done = trigger("collect", "--url", function.url)
    assert done.return_value == 0
    assert done.stdout.endswith("fine\\x1b[2J\n")
    function.answers = (299, b"")
    assert json.loads(trigger("collect", "--url", function.url, "--json").stdout)["data"]["body"] is None


@pytest.mark.parametrize("value", ["", "a\nb", "é", "a\x00"])
def test_what_cannot_stand_in_a_header_is_refused(function, value):
    failed = trigger("collect", "--url", function.url, "--id", value).exception
    assert isinstance(failed, InvalidInput)
    assert "--id" in failed.message
    assert function.got == []


def test_the_address_is_the_running_runtimes_or_the_usual_one(tmp_path):
    assert find_url("collect", tmp_path) == "http://127.0.0.1:8082"
    with pytest.raises(NotFound, match="`gpu-telemetry up`"):
        find_url("mine", tmp_path)
    with lock_data_dir(tmp_path) as lock, signed(tmp_path, lock):
        announce(tmp_path, host="127.0.0.1", urls={"mine": "http://127.0.0.1:5"}, admin="http://127.0.0.1:6")
        assert find_url("mine", tmp_path) == "http://127.0.0.1:5"
        with pytest.raises(NotFound, match="there are mine"):
            find_url("collect", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_where_nothing_answers_it_says_what_starts_it():
    failed = trigger("collect", "--url", "http://127.0.0.1:9").exception
    assert isinstance(failed, Transient)
    assert "`gpu-telemetry up`" in failed.message
