"""The examples of the document: for an endpoint a command that asks it, and what it answered.

They stand in examples.json beside this file, by method and path. Answers are shortened, but still answers: a
test holds each against the declaration.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NotRequired, TypedDict, cast

import orjson


class Example(TypedDict):
    """One example."""

    curl: str
    #: JSON, or the text of what is not JSON; left out where there is nothing to show.
    answer: NotRequired[Any]
    #: Further commands, each below a line that begins with # and says what is different.
    also: NotRequired[list[str]]


def read_examples() -> dict[str, Example]:
    """Read them, by such as `GET /api/v1/gpus`."""
    return cast(
        "dict[str, Example]", orjson.loads(files("shared.api").joinpath("examples.json").read_bytes())
    )
