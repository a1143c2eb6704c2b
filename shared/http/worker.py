"""The process that answers, as the server sees it."""

from __future__ import annotations

import signal


def is_stopping() -> bool:
    """Tell whether this process was asked to end: what it answers now is the last that it answers.

    functions-framework gives a function no way to be told. But whoever handles SIGTERM in a worker of
    gunicorn is the worker, whose `alive` is False from then on. Safe to call from any thread.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return not getattr(worker, "alive", True)
