"""Answers are kept while what they were made of stays the same, and never longer than they fit."""

from __future__ import annotations

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from functions.query.answers import MOST_BYTES, Answers, name_answer
from functions.query.formats import FORMATS
from shared.errors import NotFound

[JSON, *_] = FORMATS


def asked(**headers):
    return Request(EnvironBuilder(headers=headers).get_environ())


def body_of(response):
    return b"".join(response.response if response.is_streamed else [response.get_data()])


def ask(answers, question, pieces, made, *, is_of=True):
    etag = name_answer(question)
    kept = answers.find(asked(), etag)
    if kept is not None:
        assert kept.headers["ETag"] == etag
        return body_of(kept)
    made.append(question)
    return body_of(answers.answer(etag, JSON, iter(pieces), is_of=lambda: is_of))


def test_the_same_question_is_answered_once():
    answers, made = Answers(), []
    for _ in range(3):
        assert ask(answers, ("GPU-a", None, ("s1",)), [b"[1", b"]"], made) == b"[1]"
    assert ask(answers, ("GPU-a", None, ("s1", "s2")), [b"[2]"], made) == b"[2]"
    assert len(made) == 2


def test_what_was_made_of_something_else_is_not_kept():
    answers, made = Answers(), []
    assert ask(answers, "q", [b"newer"], made, is_of=False) == b"newer"
    assert ask(answers, "q", [b"older"], made) == b"older"


def test_a_long_answer_is_streamed_whole_and_not_kept():
    answers, made = Answers(), []
    pieces = [b"x" * (MOST_BYTES // 2)] * 4
    for _ in range(2):
        assert ask(answers, "long", pieces, made) == b"".join(pieces)
    assert len(made) == 2


def test_a_failure_is_raised_and_not_kept():
    answers, made = Answers(), []

    def fail():
        yield b"["
        raise NotFound("none")

    with pytest.raises(NotFound):
        answers.answer(name_answer("q"), JSON, fail())
    assert ask(answers, "q", [b"now"], made) == b"now"


def test_whoever_has_an_answer_is_told_so_before_it_is_made():
    answers, etag = Answers(), name_answer("q")
    for given in (etag, etag.removeprefix("W/"), f'"a", {etag}'):
        assert answers.find(asked(**{"If-None-Match": given}), etag).status_code == 304
    for given in (name_answer("p"), "*", etag[:-2] + '"'):
        assert answers.find(asked(**{"If-None-Match": given}), etag) is None


def test_where_the_next_page_is_stands_in_a_header_if_it_is_known_by_then():
    answers = Answers()
    for pieces in ([b"x"], [b"x" * MOST_BYTES] * 2):
        response = answers.answer(None, JSON, iter(pieces), next_link=lambda: "/next")
        assert response.headers["Link"] == '</next>; rel="next"'
        assert "ETag" not in response.headers
