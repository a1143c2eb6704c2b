"""Dead letters over HTTP: listed, looked into, replayed, dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flask import Request, Response

from shared import clock
from shared.api import collect as api
from shared.errors import PipelineError
from shared.http import Route, data_response
from shared.ingest.report import format_ms
from shared.messages import NewerMessage, decode_message
from shared.queue.dead import DeadLetter, DeadLetters
from shared.records import VERSION

#: What is shown of one: records, uuids, and bytes of what cannot be decoded.
_RECORDS, _GPUS, _HEAD_BYTES = 5, 100, 64
#: What a look into a damaged message can end in, beside our own errors.
_DAMAGE = (PipelineError, pa.ArrowException, ValueError, OverflowError, TypeError, KeyError)


def build_routes(letters: Callable[[], DeadLetters]) -> list[Route]:
    """Build the routes; `letters` is asked when the first request comes."""

    def list_(_request: Request, wanted: api.LettersPage) -> Response:
        limit = min(wanted.limit, api.MOST_LISTED)
        page, count = letters().read_page(after=wanted.after or "", limit=limit)
        return data_response([describe_letter(x) for x in page], count=count)

    def show(_request: Request, wanted: api.OneLetter) -> Response:
        letter, payload = letters().read(wanted.id)
        return data_response({**describe_letter(letter), **describe_payload(payload)})

    def replay(_request: Request, wanted: api.OneLetter) -> Response:
        letters().replay(wanted.id, clock.now_ms())
        return data_response({"id": wanted.id, "replayed": 1})

    def replay_all(_request: Request, wanted: api.AllLetters) -> Response:
        replayed, left = letters().replay_all(wanted.limit, clock.now_ms())
        return data_response({"replayed": replayed, "left": left})

    def drop(_request: Request, wanted: api.OneLetter) -> Response:
        letters().drop(wanted.id)
        return data_response({"id": wanted.id, "dropped": 1})

    def drop_all(_request: Request, wanted: api.AllLetters) -> Response:
        dropped, left = letters().drop_all(wanted.limit)
        return data_response({"dropped": dropped, "left": left})

    return [
        Route(api.LIST_DEAD, list_),
        Route(api.DROP_ALL_DEAD, drop_all),
        Route(api.REPLAY_ALL_DEAD, replay_all),
        Route(api.SHOW_DEAD, show),
        Route(api.DROP_DEAD, drop),
        Route(api.REPLAY_DEAD, replay),
    ]


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
