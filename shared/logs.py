"""Logs: JSON lines where nobody watches, short lines on a terminal.

Every record may carry `extra={"action": ...}`: tests and dashboards match on the action, not on prose.
Context (upload, message) goes into `extra` beside it. What is logged while a request is answered carries
its id.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

#: The id of the request that this thread answers; empty between requests.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, service, message, and whatever `extra` carried."""

    def __init__(self, **context: str) -> None:
        super().__init__()
        self._context = {k: v for k, v in context.items() if v}

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        out: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._context,
            "message": record.getMessage(),
        }
        if request_id.get():
            out["request_id"] = request_id.get()
        out.update({k: v for k, v in vars(record).items() if k not in _PLAIN})
        if record.exc_info:
            out["exception"] = self.formatException(record.exc_info)
        return json.dumps(out, default=str)


def configure_logs(service: str, level: str, *, revision: str = "", instance: str = "") -> None:
    """Send this process's log records to standard error; safe to call twice.

    Args:
        service: Whose records they are.
        level: Below which nothing is logged.
        revision: Which revision of the service, where it has some.
        instance: Which instance of it, where there may be several: their lines may share a file.
    """
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter(f"%(levelname)-7s {service}: %(message)s"))
    else:
        handler.setFormatter(JsonFormatter(service=service, revision=revision, instance=instance))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("urllib3").setLevel(logging.WARNING)
