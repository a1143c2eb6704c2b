"""Who may ask: addresses, forwarded ones, Host, Origin, roles. Decisions, without a server."""

from __future__ import annotations

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from shared.config import read_settings
from shared.errors import BadConfig, Forbidden, TooManyRequests, Unauthorized
from shared.http.access import Access
from shared.http.addresses import client_address, is_local, is_loopback, is_loopback_host, parse_address
from shared.http.cors import Cors

TOKENS = {"read": "r" * 20, "ingest": "i" * 20, "admin": "a" * 20}


def request(peer="127.0.0.1", method="GET", path="/", **headers):
    headers = {name.replace("_", "-"): value for name, value in {"Host": "localhost:8080", **headers}.items()}
    builder = EnvironBuilder(path=path, method=method, environ_base={"REMOTE_ADDR": peer})
    environ = builder.get_environ()
    del environ["HTTP_HOST"]
    for name, value in headers.items():
        if value is not None:
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    return Request(environ)


def access(**settings):
    config = read_settings({name: str(value) for name, value in settings.items()})
    return Access(config, Cors(config.origins()))


@pytest.fixture
def with_tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
    return access(AUTH_TOKENS=file, RATE_LIMIT="2")


def decide(guard, asked, role="read", **how):
    caller = guard.identify(asked, **how)
    guard.authorize(asked, caller, role, **how)
    return caller


@pytest.mark.parametrize("text", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"])
def test_loopback(text):
    assert is_loopback(text)


@pytest.mark.parametrize(
    "text",
    ["", "0.0.0.0", "10.0.0.1", "::", "::ffff:10.0.0.1", "localhost", "127.1", "2130706433", "fe80::1%lo"],
)
def test_not_loopback(text):
    assert not is_loopback(text)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "a.localhost:1",
        "127.0.0.1",
        "127.0.0.2:80",
        "[::1]:8080",
        "[::1]",
    ],
)
def test_names_of_this_machine(host):
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0:8080", "[::]", "10.0.0.1",
     "localhost@evil.example", "localhost:80@evil.example", "[", "evil.example/localhost", "notlocalhost"],
)  # fmt: skip
def test_names_of_others(host):
    assert not is_loopback_host(host)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        (" 1.2.3.4:567 ", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("[::1]", "::1"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_addresses_as_proxies_write_them(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request("::1", Host="[::1]:8080"),
        request("::ffff:127.0.0.1"),
        request(Host=None),
        request(X_Forwarded_For="127.0.0.1, ::1"),
        request(Forwarded='for=127.0.0.1;proto=http, for="[::1]:80"'),
    ],
)
def test_of_this_machine(asked):
    assert is_local(asked)
    decide(access(), asked)


@pytest.mark.parametrize(
    "asked",
    [
        request("10.0.0.7"),
        request("::ffff:10.0.0.7"),
        request(""),
        request(Host="evil.example:8080"),
        request(Host="query.default.svc.cluster.local"),
        request(X_Forwarded_For="10.0.0.7"),
        request(X_Forwarded_For="10.0.0.7, 127.0.0.1"),
        request(X_Forwarded_For="127.0.0.1, 10.0.0.7"),
        request(X_Forwarded_For="unknown"),
        request(X_Real_IP="10.0.0.7"),
        request(Forwarded="for=10.0.0.7"),
        request(Forwarded="for=127.0.0.1, For = 10.0.0.7"),
        request(Forwarded="by=127.0.0.1"),
    ],
)
def test_of_elsewhere(asked):
    assert not is_local(asked)
    with pytest.raises(Forbidden, match=r"AUTH_TOKENS.*INSECURE=true"):
        decide(access(), asked)
    decide(access(), asked, "anybody")
    decide(access(INSECURE="true"), asked)


@pytest.mark.parametrize(
    ("asked", "client"),
    [
        (request("10.0.0.7"), "10.0.0.7"),
        (request("10.0.0.7", X_Forwarded_For="1.1.1.1"), "10.0.0.7"),
        (request(X_Forwarded_For="1.1.1.1, 10.0.0.7:80"), "10.0.0.7"),
        (request(X_Forwarded_For="1.1.1.1,"), "127.0.0.1"),
        (request(X_Forwarded_For="1.1.1.1, 10.0.0.7, 127.0.0.1"), "10.0.0.7"),
        (request(X_Forwarded_For='1.1.1.1, 10.0.0.7, "[::1]:80", ::ffff:127.0.0.1'), "10.0.0.7"),
        (request("::1", X_Forwarded_For="127.0.0.1, 10.0.0.7, 127.0.0.1"), "10.0.0.7"),
        (request(X_Forwarded_For="10.0.0.7, unknown, 127.0.0.1"), "unknown"),
        (request(X_Forwarded_For="127.0.0.2, ::1"), "127.0.0.2"),
        (request(X_Forwarded_For="10.0.0.7,, 127.0.0.1"), "127.0.0.1"),
        (request("10.0.0.9", X_Forwarded_For="10.0.0.7, 127.0.0.1"), "10.0.0.9"),
        (request(), "127.0.0.1"),
    ],
)
def test_only_a_peer_of_this_machine_says_for_whom_it_asks(asked, client):
    assert client_address(asked) == client


@pytest.mark.parametrize("role", ["read", "ingest", "admin"])
@pytest.mark.parametrize("given", ["read", "ingest", "admin"])
def test_a_role_may_its_own_and_admin_everything(with_tokens, given, role):
    asked = request("203.0.113.9", Authorization=f"bearer {TOKENS[given]}", Host="gpu.example")
    if given in (role, "admin"):
        decide(with_tokens, asked, role)
    else:
        with pytest.raises(Forbidden, match=f"role {role}: this one's is {given}"):
            decide(with_tokens, asked, role)
    decide(with_tokens, asked, None)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (None, "needs a token"),
        ("", "needs a token"),
        ("Bearer", "needs a token"),
        (f"Basic {TOKENS['admin']}", "needs a token"),
        (TOKENS["admin"], "needs a token"),
        ("Bearer wrong-wrong-wrong", "not known"),
        (f"Bearer {TOKENS['admin']} {TOKENS['read']}", "not known"),
        ("Bearer \xe9\xff", "not known"),
    ],
)
def test_without_a_known_token_nobody_is_served_not_even_this_machine(with_tokens, header, said):
    asked = request(Authorization=header)
    for role in ("read", None):
        with pytest.raises(Unauthorized, match=said):
            decide(with_tokens, asked, role)
    decide(with_tokens, asked, "anybody")


def test_a_token_in_the_query_is_taken_at_the_door_of_sockets_only(with_tokens):
    asked = request(path=f"/ws?access_token={TOKENS['read']}", Origin="https://grafana.example")
    with pytest.raises(Unauthorized):
        decide(with_tokens, asked)
    assert decide(with_tokens, asked, is_socket=True).token.role == "read"
    with pytest.raises(Forbidden):
        decide(with_tokens, asked, "admin", is_socket=True)
    with pytest.raises(Unauthorized, match="not known"):
        decide(with_tokens, request(path="/ws?access_token=unknown"), is_socket=True)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:8090", "http://localhost", "http://[", ""]
)
def test_pages_of_elsewhere_change_nothing_and_open_no_socket(origin):
    guard = access()
    for asked in (request(method="POST", Origin=origin), request(method="DELETE", Origin=origin)):
        with pytest.raises(Forbidden, match="another origin"):
            decide(guard, asked)
    with pytest.raises(Forbidden, match="another origin"):
        decide(guard, request(Origin=origin), is_socket=True)
    # What they read, the browser does not show them.
    decide(guard, request(Origin=origin))


def test_own_pages_and_those_that_cors_allows_do():
    guard = access(ENABLE_CORS="true", CORS_ORIGINS="https://grafana.example")
    for origin in ("http://localhost:8080", "https://grafana.example", None):
        decide(guard, request(method="POST", Origin=origin))
        decide(guard, request(Origin=origin), is_socket=True)


def test_each_token_has_a_limit_of_its_own_and_so_has_each_address(with_tokens):
    def ask(peer, token=None):
        asked = request(peer, Authorization=f"Bearer {token}" if token else None)
        with_tokens.limit(with_tokens.identify(asked))

    for who in (
        ("10.0.0.1", TOKENS["read"]),
        ("10.0.0.1", TOKENS["admin"]),
        ("10.0.0.1",),
        ("127.0.0.1", "guess"),
    ):
        for _ in range(4):
            ask(*who)
        with pytest.raises(TooManyRequests, match="more than 2 requests a second") as caught:
            ask(*who)
        assert caught.value.retry_after_s == 1
    with pytest.raises(TooManyRequests):
        ask("127.0.0.1", "another-guess")


def test_this_machine_is_not_limited_without_tokens_but_others_are():
    guard = access(INSECURE="true", RATE_LIMIT="1")
    for _ in range(10):
        guard.limit(guard.identify(request()))
    far = guard.identify(request(X_Forwarded_For="10.0.0.1"))
    for _ in range(2):
        guard.limit(far)
    with pytest.raises(TooManyRequests):
        guard.limit(far)


def test_no_limit_at_zero():
    guard = access(INSECURE="true", RATE_LIMIT="0")
    for _ in range(1000):
        guard.limit(guard.identify(request("10.0.0.1")))


@pytest.mark.parametrize(
    ("origins", "origin", "answer"),
    [
        ("https://a.example", "https://a.example", "https://a.example"),
        ("https://a.example, http://b:3000", "http://b:3000", "http://b:3000"),
        ("HTTPS://A.example", "https://a.example", "https://a.example"),
        ("https://a.example", "https://a.example:444", ""),
        ("https://a.example", "http://a.example", ""),
        ("https://a.example", "https://a.example.evil", ""),
        ("https://a.example", "null", ""),
        ("https://a.example", "", ""),
        ("*", "https://a.example", "*"),
    ],
)
def test_which_origins_are_allowed(origins, origin, answer):
    config = read_settings({"ENABLE_CORS": "true", "CORS_ORIGINS": origins})
    assert Cors(config.origins()).decide(origin) == answer


def test_no_origin_is_allowed_unless_cors_is_enabled():
    config = read_settings({"CORS_ORIGINS": "https://a.example"})
    cors = Cors(config.origins())
    assert not cors.enabled
    assert not cors.allows("https://a.example")


@pytest.mark.parametrize(
    ("enabled", "origins", "said"),
    [
        ("true", "", "ENABLE_CORS needs origins"),
        ("true", " , ", "ENABLE_CORS needs origins"),
        ("true", "grafana.example", "expected origins such as"),
        ("false", "https://grafana.example/", "without a path"),
        ("true", "https://*.example", "expected origins"),
        ("true", "https://user@host", "expected origins"),
    ],
)
def test_origins_that_are_none_refuse_to_start(enabled, origins, said):
    with pytest.raises(BadConfig, match=said) as caught:
        read_settings({"ENABLE_CORS": enabled, "CORS_ORIGINS": origins})
    assert caught.value.message.startswith("CORS_ORIGINS=")
