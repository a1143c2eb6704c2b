"""Answers are kept while what they were made of stays the same, and never longer than they fit."""

from __future__ import annotations

import pytest

from functions.query.answers import MOST_BYTES, Answers
from shared.errors import NotFound


def body_of(response):
    return b"".join(response.response if response.is_streamed else [response.get_data()])


def ask(answers, question, pieces, made, *, is_of=True):
    kept = answers.find(question)
    if kept is not None:
        return body_of(kept)
    made.append(question)
    return body_of(answers.answer(question, iter(pieces), lambda: is_of))


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
        answers.answer("q", fail(), lambda: True)
    assert ask(answers, "q", [b"now"], made) == b"now"
