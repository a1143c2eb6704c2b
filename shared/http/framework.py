"""What the framework answers by itself, answered as we do."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, current_app, has_app_context
from werkzeug.exceptions import HTTPException, InternalServerError


def take_over(answer: Callable[[HTTPException], Response]) -> None:
    """Have `answer` answer what never gets to a function: paths that are none, what fails outside it.

    functions-framework imports a function within its application, and adds its routes afterwards.
    """
    if not has_app_context():
        return
    app: Flask = current_app
    # `//` is a path like any other: a redirect would be an answer of the framework's own.
    app.url_map.merge_slashes = False
    app.register_error_handler(HTTPException, answer)
    app.register_error_handler(InternalServerError, answer)
