"""Dead letters over HTTP: listed, looked into, replayed, dropped.

GET    /dead              those there are: ?limit= and ?after=<id>
GET    /dead/{id}         one of them, with what can be read of it
POST   /dead/{id}/replay  back into the queue, with no attempts counted
POST   /dead/replay?all=true
                          all of them, up to &limit=
DELETE /dead/{id}         gone for ever
DELETE /dead?all=true     all of them, up to &limit=
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from shared import clock
from shared.errors import InvalidInput, PipelineError
from shared.http import Route, data_response, parse_count
from shared.ingest.report import format_ms
from shared.keys import is_message_id
from shared.messages import NewerMessage, decode_message
from shared.queue.dead import DeadLetter, DeadLetters
from shared.records import VERSION

#: Dead letters of one listing, unless ?limit= says otherwise, and at most.
_LISTED, _MOST_LISTED = 100, 1000
#: Replayed or dropped by one request, unless ?limit= says otherwise: a few seconds' work.
_AT_ONCE = 10_000
#: What is shown of one: records, uuids, and bytes of what cannot be decoded.
_RECORDS, _GPUS, _HEAD_BYTES = 5, 100, 64
#: What a look into a damaged message can end in, beside our own errors.
_DAMAGE = (PipelineError, pa.ArrowException, ValueError, OverflowError, TypeError, KeyError)


def build_routes(letters: Callable[[], DeadLetters]) -> list[Route]:
    """Build the routes; `letters` is asked when the first request comes."""

    def list_(request: Request) -> Response:
        after = request.args.get("after", "")
        limit = min(_read_limit(request, _LISTED), _MOST_LISTED)
        page, count = letters().read_page(after=_checked(after) if after else "", limit=limit)
        return data_response([describe_letter(x) for x in page], count=count)

    def show(_request: Request, id: str) -> Response:  # noqa: A002  (the path's own word)
        letter, payload = letters().read(_checked(id))
        return data_response({**describe_letter(letter), **describe_payload(payload)})

    def replay(_request: Request, id: str) -> Response:  # noqa: A002
        letters().replay(_checked(id), clock.now_ms())
        return data_response({"id": id, "replayed": 1})

    def replay_all(request: Request) -> Response:
        _require_all(request)
        replayed, left = letters().replay_all(_read_limit(request, _AT_ONCE), clock.now_ms())
        return data_response({"replayed": replayed, "left": left})

    def drop(_request: Request, id: str) -> Response:  # noqa: A002
        letters().drop(_checked(id))
        return data_response({"id": id, "dropped": 1})

    def drop_all(request: Request) -> Response:
        _require_all(request)
        dropped, left = letters().drop_all(_read_limit(request, _AT_ONCE))
        return data_response({"dropped": dropped, "left": left})

    return [
        Route("GET", "/dead", list_, ("limit", "after")),
        Route("DELETE", "/dead", drop_all, ("all", "limit")),
        Route("POST", "/dead/replay", replay_all, ("all", "limit")),
        Route("GET", "/dead/{id}", show),
        Route("DELETE", "/dead/{id}", drop),
        Route("POST", "/dead/{id}/replay", replay),
    ]


def _require_all(request: Request) -> None:
    """Refuse what would be done to all dead letters because an id was left out."""
    if request.args.get("all") != "true":
        raise InvalidInput("this is about all dead letters: say ?all=true, or name one", parameter="all")


def _read_limit(request: Request, default: int) -> int:
    return parse_count(request.args.get("limit"), "limit", default=default) or default


def _checked(message: str) -> str:
    """Return an id that may become part of a key.

    Raises:
        InvalidInput: It has not the form of a message's id.
    """
    if not is_message_id(message):
        raise InvalidInput(f"{message!r} is not a message's id: GET /dead lists those there are")
    return message


def describe_letter(letter: DeadLetter) -> dict[str, Any]:
    """Say what is known of a dead letter without reading it."""
    m = letter.message
    return {
        "id": m.id,
        "upload_id": m.upload_id,
        "received_at": format_ms(m.received_ms),
        "buried_at": None if letter.buried_ms is None else format_ms(letter.buried_ms),
        "rows": m.rows,
        "bytes": m.bytes,
        "attempts": letter.attempts,
        "reason": letter.reason,
    }


def describe_payload(payload: bytes) -> dict[str, Any]:
    """Say what can be read of a message; where nothing can, why, and how it begins."""
    try:
        table = decode_message(payload)
        table.validate(full=True)
        return _describe_records(table)
    except NewerMessage:
        error = "it is of a newer version than this collector understands"
    except _DAMAGE as exc:
        error = str(exc)
    return {"error": error, "head_hex": payload[:_HEAD_BYTES].hex()}


def _describe_records(table: pa.Table) -> dict[str, Any]:
    times = table.column("timestamp").cast(pa.int64())
    span = pc.min_max(times).as_py()
    gpus = pc.unique(table.column("uuid").cast(pa.string())).to_pylist()
    names = [name for name in table.column_names if name not in VERSION]
    head = table.select(names).slice(0, _RECORDS)
    head = head.set_column(names.index("timestamp"), "timestamp", times.slice(0, _RECORDS))
    records = [
        {name: _plain(name, value) for name, value in record.items() if value is not None}
        for record in head.to_pylist()
    ]
    return {
        "columns": names,
        "first_timestamp": format_ms(span["min"]),
        "last_timestamp": format_ms(span["max"]),
        "gpu_count": len(gpus),
        "gpus": gpus[:_GPUS],
        "records": records,
    }


def _plain(name: str, value: Any) -> Any:
    if name == "timestamp":
        return format_ms(value)
    return value if isinstance(value, str | int | float) else str(value)
