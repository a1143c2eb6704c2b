"""The messages of the WebSocket as text; what they mean stands in shared/api/live.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

import orjson
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from functions.query.columns import KEY_COLUMNS, choose_columns
from functions.query.live.outbox import Missed
from functions.query.live.subscription import Subscription
from functions.query.render import render_records
from shared.api.live_messages import ClientMessage, Ping, Subscribe, Unsubscribe
from shared.errors import InvalidInput, PipelineError

_REASONS = {
    "slow": "more was stored than this reader took",
    "history": "some of what was stored meanwhile is no longer known as new",
}


@cache
def _adapter() -> TypeAdapter[Subscribe | Unsubscribe | Ping]:
    return TypeAdapter(ClientMessage)


def parse_message(text: str | bytes) -> Subscribe | Unsubscribe | Ping:
    """Read what a client sent.

    Raises:
        InvalidInput: It is no such message; says what would be.
    """
    try:
        return _adapter().validate_json(text)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"][1:])
        said = first["msg"].replace("Input should be", "expected")
        raise InvalidInput(f"{where}: {said}" if where else said) from exc


def read_subscription(message: Subscribe, stored: Callable[[], Collection[str]]) -> Subscription:
    """Make a subscription of a message; `stored` lists the fields that some record has.

    Raises:
        InvalidInput: A field is unknown; names the nearest.
    """
    columns = choose_columns(message.fields, stored) if message.fields else None
    return Subscription(gpus=message.gpus, hosts=message.hosts, models=message.models, columns=columns)


def format_cursor(revision: int) -> str:
    """Write a revision as a cursor."""
    return f"{revision:x}"


def parse_cursor(cursor: str) -> int:
    """Read a cursor that `Subscribe` has validated."""
    return int(cursor, 16)


def subscribed(subscription: Subscription, revision: int) -> str:
    """Say what will come."""
    return _text(
        "subscribed",
        gpus=subscription.gpus,
        hosts=subscription.hosts,
        models=subscription.models,
        fields=[name for name in subscription.columns or () if name not in KEY_COLUMNS],
        cursor=format_cursor(revision),
    )


def unsubscribed(revision: int) -> str:
    """Say that nothing comes any more."""
    return _text("unsubscribed", cursor=format_cursor(revision))


def records(table: pa.Table, columns: Sequence[str] | None, revision: int) -> str:
    """Write records, with a time and `columns`, or with all there is."""
    data = render_records(table, columns)
    return (b'{"type":"records","data":[%b],"cursor":"%x"}' % (data, revision)).decode()


def missed(what: Missed) -> str:
    """Say what is left out."""
    return _text(
        "missed",
        reason=_REASONS[what.reason],
        count=what.count,
        **{"from": format_cursor(what.before)},
        cursor=format_cursor(what.revision),
    )


def error(exc: PipelineError) -> str:
    """Say what was wrong with a message."""
    return _text("error", message=exc.message, details=exc.details)


def pong() -> str:
    """Answer a ping."""
    return _text("pong")


def alive(revision: int) -> str:
    """Say that there was nothing to say."""
    return _text("alive", cursor=format_cursor(revision))


def closing(reason: str, revision: int) -> str:
    """Say good-bye."""
    return _text("closing", reason=reason, cursor=format_cursor(revision))


def _text(kind: str, **members: Any) -> str:
    return orjson.dumps({"type": kind, **members}).decode()
