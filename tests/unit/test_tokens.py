"""Files of tokens: what they say, what is refused, and how one that changes is read again."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadConfig
from shared.tokens import CHECK_EVERY_S, TokenFile, find_token, is_token, parse_tokens

READ, INGEST, ADMIN = "r" * 20, "i" * 20, "a" * 20
TEXT = f"# who may what\n\nread {READ}\n  ingest\t{INGEST}  \nadmin {ADMIN}\n"


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_each_line_is_a_role_and_a_token():
    tokens = parse_tokens(TEXT, "f")
    assert [(t.role, t.line, t.name) for t in tokens] == [
        ("read", 3, "read:3"),
        ("ingest", 4, "ingest:4"),
        ("admin", 5, "admin:5"),
    ]


def test_no_token_shows_where_one_is_printed():
    for token in parse_tokens(TEXT, "f"):
        assert token.value not in repr(token)
        assert str(token.digest) not in repr(token)


@pytest.mark.parametrize("given", [READ, INGEST, ADMIN])
def test_a_token_is_found_wherever_it_stands(given):
    found = find_token(parse_tokens(TEXT, "f"), given)
    assert found.value == given


@pytest.mark.parametrize("given", ["", READ[:-1], READ + "r", READ.upper(), "é" * 20, "\udce9" * 20])
def test_what_is_not_quite_a_token_is_none(given):
    assert find_token(parse_tokens(TEXT, "f"), given) is None


def test_every_token_is_compared_also_after_one_was_found(monkeypatch):
    compared = []
    tokens = parse_tokens(TEXT, "f")
    monkeypatch.setattr("shared.tokens.hmac.compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    assert find_token(tokens, READ).role == "read"
    assert [a for a, _ in compared] == [t.digest for t in tokens]
    assert len({len(a) for pair in compared for a in pair}) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f has no token"),
        ("# nothing yet\n", "f has no token"),
        (f"\nread {READ} x\n", "f, line 2: expected a role and a token, not 3 words"),
        (f"{READ}\n", "f, line 1: expected a role and a token, not 1 words"),
        (f"reader {READ}\n", "f, line 1: the role is none of ingest, read, admin"),
        (f"{READ} read\n", "f, line 1: the role is none of"),
        ("read short-secret\n", "f, line 1: the token has 12 characters, at least 16"),
        ("read gehëimgehëimgehëim\n", "f, line 1: the token has characters beyond"),
        (f"read {READ}\n\nadmin {READ}\n", "f, line 3: the token of line 1 once more"),
    ],
)
def test_a_bad_line_is_named_and_its_token_is_not(text, said):
    with pytest.raises(BadConfig) as caught:
        parse_tokens(text, "f")
    assert said in caught.value.message
    for secret in (READ, "short-secret", "gehëim"):
        assert secret not in caught.value.message


@given(st.text())
def test_any_text_is_tokens_or_refused_in_one_line(text):
    try:
        tokens, said = parse_tokens(text, "f"), ""
    except BadConfig as exc:
        tokens, said = (), exc.message
    assert all(is_token(t.value) and len(t.value) >= 16 for t in tokens)
    assert bool(tokens) != bool(said)
    assert "\n" not in said


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadConfig, match=r"none cannot be read: No such file"):
        TokenFile(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfig, match=r"binary is not a text file"):
        TokenFile(tmp_path / "binary")


def test_a_file_that_changes_is_read_again_at_most_once_a_second(tmp_path):
    path, clock = tmp_path / "tokens", Clock()
    path.write_text(f"read {READ}\n")
    file = TokenFile(path, clock)
    path.write_text(f"read {INGEST}\nread {ADMIN}\n")
    clock.now_s += CHECK_EVERY_S / 2
    assert find_token(file.tokens(), READ)
    clock.now_s += CHECK_EVERY_S / 2
    assert find_token(file.tokens(), READ) is None
    assert find_token(file.tokens(), ADMIN)


def test_a_mounted_secret_is_exchanged_by_its_link(tmp_path):
    for name, token in (("one", READ), ("two", ADMIN)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokens").write_text(f"read {token}\n")
        os.utime(tmp_path / name / "tokens", (1, 1))
    link, clock = tmp_path / "data", Clock()
    link.symlink_to("one")
    file = TokenFile(link / "tokens", clock)
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(link)
    clock.now_s += CHECK_EVERY_S
    assert find_token(file.tokens(), ADMIN)


@pytest.mark.parametrize("text", ["", "nonsense\n", None])
def test_a_bad_version_is_logged_once_and_not_taken(tmp_path, caplog, text):
    path, clock = tmp_path / "tokens", Clock()
    path.write_text(f"read {READ}\n")
    file = TokenFile(path, clock)
    path.unlink() if text is None else path.write_text(text)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            clock.now_s += CHECK_EVERY_S
            assert find_token(file.tokens(), READ)
    assert [r.action for r in caplog.records] == ["tokens_refused"]
    path.write_text(f"read {ADMIN}\n")
    clock.now_s += CHECK_EVERY_S
    assert find_token(file.tokens(), ADMIN)


def test_the_first_token_of_a_role_is_what_one_sends_oneself(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(TEXT)
    file = TokenFile(path)
    assert file.headers("ingest", "admin") == {"Authorization": f"Bearer {INGEST}"}
    path.write_text(f"read {READ}\n")
    with pytest.raises(BadConfig, match="no token with the role ingest or admin"):
        TokenFile(path).headers("ingest", "admin")
