"""YAML is read as the API server reads it."""

from __future__ import annotations

import pytest

from local_runtime.manifests.documents import parse_documents
from shared.errors import BadConfig


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-15", "2024-01-15"),
        ("0x10", 16),
        ("010", 8),
        ("-5", -5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.2.3", "1.2.3"),
        ("5m", "5m"),
        ("yes", True),
        ("null", None),
        ("~", None),
        ('"12"', "12"),
        ("* * * * *", None),
    ],
)
def test_a_plain_value(text, value):
    if text.startswith("*"):
        with pytest.raises(BadConfig, match="not YAML"):
            parse_documents(f"a: {text}", "x.yaml")
        return
    (document,) = parse_documents(f"a: {text}", "x.yaml")
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)


def test_keys_are_text_as_written():
    assert parse_documents("8080: a\ntrue: b", "x.yaml")[0].data == {"8080": "a", "true": "b"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", "x.yaml: b.c: stands twice (lines 3 and 5)"),
        ("- a: 1\n  a: 1", "x.yaml: 0.a: stands twice (lines 1 and 2)"),
        ("a: [", "x.yaml: not YAML: "),
        ("a: !!python/object:os.system {}", "x.yaml: not YAML: "),
        ("[a]: b", "x.yaml: a key is not a string (line 1)"),
        ("a: *b", "x.yaml: not YAML: found undefined alias"),
        ("\x00", "x.yaml: not YAML: "),
        ("a: " + "[" * 5000, "x.yaml: not YAML: "),
    ],
)
def test_what_is_not_clear_is_refused_in_one_line(text, said):
    with pytest.raises(BadConfig) as caught:
        parse_documents(text, "x.yaml")
    assert caught.value.message.startswith(said)
    assert "\n" not in caught.value.message


def test_a_broken_file_is_not_quoted():
    with pytest.raises(BadConfig) as caught:
        parse_documents("kind: Secret\nstringData:\n  token: [hunter2\n", "x.yaml")
    assert "hunter2" not in caught.value.message


def test_anchors_and_merges_are_understood():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\nd: {<<: *a, y: 4}"
    assert parse_documents(text, "x.yaml")[0].data == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2},
        "d": {"x": 1, "y": 4},
    }


def test_values_know_their_line():
    (first, second) = parse_documents("a: 1\n---\n# nothing\n---\nb:\n  - c\n  - d: 1\n", "x.yaml")
    assert first.lines["a",] == 1
    assert second.lines["b", 1, "d"] == 7
    assert "b.5: expected (line 6)" in second.mistake(("b", 5), "expected").message
