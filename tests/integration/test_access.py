"""Who may ask the functions: roles at every endpoint there is, rotation, other machines, how often."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
import secrets
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3

import shared.api
from shared.tokens import CHECK_EVERY_S
from tests.functions import free_port, running
from tests.integration.tokens import TOKENS, bearer, outer_address, write_tokens
from tests.waiting import wait_until

FUNCTIONS = ("upload", "collect", "query")


def every_endpoint():
    """Every endpoint that is declared anywhere, with each function that has it."""
    found = {}
    for module in pkgutil.iter_modules(shared.api.__path__, "shared.api."):
        for endpoint in getattr(importlib.import_module(module.name), "ENDPOINTS", ()):
            for service in FUNCTIONS if endpoint.service == "every" else (endpoint.service,):
                found[service, endpoint.method, endpoint.path] = endpoint
    return found


ENDPOINTS = every_endpoint()


@pytest.fixture(scope="module")
def guarded(etcd_endpoint, tmp_path_factory):
    """The three functions with tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    where = {"etcd": etcd_endpoint, "prefix": f"/test-{secrets.token_hex(6)}"}
    tokens = write_tokens(folder / "tokens")
    with contextlib.ExitStack() as stack:
        functions = {
            name: stack.enter_context(running(name, folder, **where, AUTH_TOKENS=str(tokens), RATE_LIMIT="0"))
            for name in FUNCTIONS
        }
        yield SimpleNamespace(**functions)


def test_every_function_declares_something():
    assert len(ENDPOINTS) > 25
    assert {service for service, _, _ in ENDPOINTS} == set(FUNCTIONS)
    assert {endpoint.role for endpoint in ENDPOINTS.values()} == {"anybody", "read", "ingest", "admin"}


@pytest.mark.parametrize("key", ENDPOINTS, ids=" ".join)
def test_an_endpoint_asks_for_its_role(guarded, key):
    service, method, path = key
    role = ENDPOINTS[key].role
    path = re.sub(r"\{\w+\}", "00000000000a-aaaaaaaaaaaa-000001", path)

    def ask(**headers):
        return getattr(guarded, service).call(method, path, headers=headers)

    for headers in ({}, bearer("unknown-unknown-unknown"), {"Authorization": f"Basic {TOKENS['admin']}"}):
        status, body, answered = ask(**headers)
        if role == "anybody":
            assert status not in (401, 403)
        else:
            assert (status, body["error"]["code"]) == (401, "unauthorized")
            assert answered["WWW-Authenticate"] == "Bearer"
    for given in TOKENS:
        status, body, _ = ask(**bearer(given))
        if role == "anybody" or given in (role, "admin"):
            assert status not in (401, 403, 500), body
        else:
            assert (status, body["error"]["code"]) == (403, "forbidden")
            assert role in body["error"]["message"]


def test_what_there_is_is_told_to_nobody_without_a_token(guarded):
    for method, path in (("GET", "/nothing"), ("PUT", "/api/v1/gpus"), ("GET", "/robots.txt"), ("GET", "//")):
        status, body, _ = guarded.query.call(method, path)
        assert (status, body["error"]["details"]) == (401, {})
        assert guarded.query.call(method, path, headers=bearer("read"))[0] in (404, 405)


def test_a_token_in_the_address_is_none(guarded):
    assert guarded.query.call("GET", f"/api/v1/gpus?access_token={TOKENS['read']}")[0] == 401


def test_with_tokens_other_names_and_machines_are_served(guarded):
    headers = {**bearer("read"), "Host": "gpu.example", "X-Forwarded-For": "10.0.0.7"}
    assert guarded.query.call("GET", "/api/v1/gpus", headers=headers)[0] == 200


def test_tokens_are_exchanged_while_a_function_runs(etcd_endpoint, prefix, tmp_path):
    tokens = write_tokens(tmp_path / "tokens", read="first-token-of-read")
    with running("query", tmp_path, etcd=etcd_endpoint, prefix=prefix, AUTH_TOKENS=str(tokens)) as query:

        def status(token):
            return query.call("GET", "/api/v1/gpus", headers=bearer(token))[0]

        assert status("first-token-of-read") == 200
        write_tokens(tmp_path / "new", read="second-token-of-read").replace(tokens)
        wait_until(lambda: status("second-token-of-read") == 200, 5 * CHECK_EVERY_S)
        assert status("first-token-of-read") == 401
        tokens.write_text("read too-short\n")
        # It is looked at the file when somebody asks.
        wait_until(
            lambda: status("x") == 401 and "tokens_refused" in query.log.read_text(), 5 * CHECK_EVERY_S
        )
        assert status("second-token-of-read") == 200
        assert "too-short" not in query.log.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "tokens cannot be read: No such file or directory"),
        ("read secretsecretsecret\nroot secretsecretsecre2\n", "tokens, line 2: the role is none of"),
        ("read secret\n", "tokens, line 1: the token has 6 characters"),
        ("", "tokens has no token"),
    ],
)
def test_a_bad_file_refuses_to_start_in_one_line_without_the_token(prefix, tmp_path, text, said):
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text)
    bad = running("query", tmp_path, etcd="127.0.0.1:1", prefix=prefix, AUTH_TOKENS=str(path))
    with pytest.raises(AssertionError) as caught:
        bad.__enter__()
    [line] = [line for line in str(caught.value).splitlines() if "gpu-telemetry query: " in line]
    assert said in line
    assert "secretsecret" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def on_every_address(name):
    program = Path(sys.executable).parent / "functions-framework"
    return [str(program), f"--source=functions/{name}/main.py", f"--target={name}", "--host=0.0.0.0"]


@pytest.mark.parametrize("insecure", ["false", "true"])
def test_without_tokens_this_machine_is_served_and_others_if_they_may(
    etcd_endpoint, prefix, tmp_path, insecure
):
    outer = outer_address()
    where = {"etcd": etcd_endpoint, "prefix": prefix, "program": on_every_address("query")}
    with running("query", tmp_path, **where, INSECURE=insecure) as query:
        answers = {"here": query.call("GET", "/api/v1/gpus")}
        for name, headers in {
            "rebound": {"Host": "evil.example"},
            "forwarded": {"X-Forwarded-For": "10.0.0.7"},
            "forwarded too": {"Forwarded": "for=10.0.0.7"},
        }.items():
            answers[name] = query.call("GET", "/api/v1/gpus", headers=headers)
            assert query.call("GET", "/health", headers=headers)[0] == 200
        if outer is not None:
            outside = urllib3.PoolManager(retries=False, timeout=10)
            base = query.url.replace("127.0.0.1", outer)
            answer = outside.request("GET", f"{base}/api/v1/gpus")
            answers["outside"] = (answer.status, answer.json(), answer.headers)
            # By the name of this machine, but not from it.
            answer = outside.request("GET", f"{base}/api/v1/gpus", headers={"Host": "localhost"})
            answers["outside as localhost"] = (answer.status, answer.json(), answer.headers)
            assert outside.request("GET", f"{base}/health").status == 200
        assert answers.pop("here")[0] == 200
        for name, (status, body, _) in answers.items():
            assert status == (200 if insecure == "true" else 403), name
            if status == 403:
                assert "AUTH_TOKENS" in body["error"]["message"]
                assert "INSECURE=true" in body["error"]["message"]


def test_a_page_of_elsewhere_changes_nothing_here(pipeline):
    for origin in ("https://evil.example", "null", "http://["):
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        status, body, _ = pipeline.upload.call("POST", "/api/v1/csv/upload", body=b"x", headers=headers)
        assert (status, body["error"]["code"]) == (403, "forbidden")
    status, body, _ = pipeline.upload.call(
        "POST", "/api/v1/csv/upload", body=b"x", headers={"Origin": pipeline.upload.url}
    )
    assert status in (400, 415)


def test_who_asks_too_often_is_told_when_to_come_back(etcd_endpoint, prefix, tmp_path):
    tokens = write_tokens(tmp_path / "tokens")
    where = {"etcd": etcd_endpoint, "prefix": prefix, "AUTH_TOKENS": str(tokens)}
    with running("query", tmp_path, **where, RATE_LIMIT="0.5") as query:
        assert query.call("GET", "/api/v1/gpus", headers=bearer("read"))[0] == 200
        status, body, headers = query.call("GET", "/api/v1/gpus", headers=bearer("read"))
        assert (status, body["error"]["code"], headers["Retry-After"]) == (429, "too_many_requests", "2")
        assert query.call("GET", "/api/v1/gpus", headers=bearer("admin"))[0] == 200
        # Guessing tokens is asking, too.
        assert query.call("GET", "/api/v1/gpus", headers=bearer("guess-guess-guess"))[0] == 401
        assert query.call("GET", "/api/v1/gpus", headers=bearer("another-guess-guess"))[0] == 429
        assert {query.get("/health")[0] for _ in range(20)} == {200}


def test_events_are_not_counted(etcd_endpoint, prefix, tmp_path):
    tokens = write_tokens(tmp_path / "tokens")
    where = {"etcd": etcd_endpoint, "prefix": prefix, "AUTH_TOKENS": str(tokens)}
    with running("collect", tmp_path, **where, RATE_LIMIT="1") as collect:
        statuses = {collect.call("POST", "/", headers=bearer("ingest"))[0] for _ in range(10)}
        assert statuses == {204}
        assert collect.call("POST", "/")[0] == 401


def test_a_queue_source_without_a_token_to_send_does_not_start(prefix, tmp_path):
    tokens = write_tokens(tmp_path / "tokens", read="read-token-of-tests")
    program = [sys.executable, "-m", "functions.collect.queue_source"]
    where = {"etcd": "127.0.0.1:1", "prefix": prefix, "program": program}
    bad = running(
        "source", tmp_path, **where, AUTH_TOKENS=str(tokens), K_SINK=f"http://127.0.0.1:{free_port()}"
    )
    with pytest.raises(AssertionError, match="no token with the role ingest or admin"):
        bad.__enter__()
