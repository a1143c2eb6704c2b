"""`gpu-telemetry status`."""

from __future__ import annotations

from typing import Any

import click

from local_runtime.cli import EXIT_FAILED
from local_runtime.commands.output import (
    COLLECT_URL,
    QUERY_URL,
    UPLOAD_URL,
    connect,
    format_bytes,
    json_option,
    print_json,
    print_table,
    url_option,
)
from shared.client import Json
from shared.errors import PipelineError


@click.command()
@url_option(UPLOAD_URL, "the upload function")
@click.option("--query-url", default=QUERY_URL, show_default=True, help="The address of the query function.")
@click.option("--collect-url", default=COLLECT_URL, show_default=True, help="The address of collect.")
@json_option
def status(url: str, query_url: str, collect_url: str, *, as_json: bool) -> int:
    """Show how the functions and the queue are doing; exit status 1 when something is away."""
    urls = {"upload": url, "query": query_url, "collect": collect_url}
    functions = {name: _read(address, "/health") for name, address in urls.items()}
    pipeline = _read(url, "/api/v1/status")
    failed = [name for name, answer in functions.items() if "message" in answer] or "message" in pipeline
    if as_json:
        print_json({"success": not failed, "data": {"functions": functions, **pipeline.get("data", {})}})
    else:
        _print(urls, functions, pipeline)
    return EXIT_FAILED if failed else 0


def _read(url: str, path: str) -> Json:
    """Read an answer; a failure becomes a `message` instead, for the others are worth showing too."""
    try:
        return connect(url).read(path)
    except PipelineError as exc:
        return {"status": "away", "message": exc.message}


def _print(urls: dict[str, str], functions: dict[str, Json], pipeline: Json) -> None:
    rows: list[list[Any]] = [
        [
            name,
            answer.get("status"),
            answer.get("message") or f"{urls[name]}, version {answer.get('version')}",
        ]
        for name, answer in functions.items()
    ]
    data = pipeline.get("data")
    if data is None:
        rows.append(["queue", "away", pipeline.get("message")])
    else:
        rows.append(["queue", "", _describe(data.get("queue"))])
        rows.append(["etcd", "", _describe(data.get("etcd"))])
    print_table(["WHAT", "STATUS", "DETAILS"], rows)


def _describe(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    guessed = ("bytes", "rows") if part.get("bytes_estimated") else ()
    said = []
    for name, value in part.items():
        if value is None or name == "bytes_estimated":
            continue
        about = "about " if name in guessed else ""
        if name.endswith("bytes"):
            what = "size" if name == "bytes" else name.removesuffix("_bytes")
            said.append(f"{what} {about}{format_bytes(value)}")
        else:
            said.append(f"{name} {about}{','.join(map(str, value)) if isinstance(value, list) else value}")
    return ", ".join(said)
