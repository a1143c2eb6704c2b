"""`gpu-telemetry dead list|show|replay|drop`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from local_runtime.cli import EXIT_FAILED
from local_runtime.commands.output import (
    COLLECT_URL,
    connect,
    json_option,
    print_json,
    print_table,
    url_option,
)
from shared.client import Json, quote_id
from shared.errors import PipelineError

_LISTED = ("id", "buried_at", "attempts", "rows", "bytes", "reason")
_SHOWN = (
    "id", "upload_id", "received_at", "buried_at", "attempts", "rows", "bytes", "reason", "error", "head_hex",
    "first_timestamp", "last_timestamp", "gpu_count",
)  # fmt: skip

_url = url_option(COLLECT_URL, "the collect function")
_ids = click.argument("ids", nargs=-1, metavar="[ID]...")


@click.group()
def dead() -> None:
    """List, look into, replay or drop dead letters: messages that could not be stored."""


@dead.command("list")
@click.option("--limit", type=click.IntRange(min=1, max=1000), default=100, show_default=True)
@click.option("--after", metavar="ID", help="Those after this one.")
@_url
@json_option
def list_(limit: int, after: str | None, url: str, *, as_json: bool) -> None:
    """List dead letters, oldest upload first."""
    answer = connect(url).read("/dead", limit=limit, after=after)
    if as_json:
        print_json(answer)
        return
    letters = answer["data"]
    if letters:
        print_table([c.upper() for c in _LISTED], [[letter.get(c) for c in _LISTED] for letter in letters])
    click.echo(
        f"{answer['count']} dead letters" if len(letters) != 1 or answer["count"] != 1 else "1 dead letter"
    )


@dead.command()
@click.argument("id")
@_url
@json_option
def show(id: str, url: str, *, as_json: bool) -> None:  # noqa: A002  (the argument's own word)
    """Print a dead letter and, where they can be read, its first records."""
    answer = connect(url).read(_path(id))
    if as_json:
        print_json(answer)
        return
    letter = answer["data"]
    print_table(["DEAD LETTER", ""], [[c, str(letter[c])] for c in _SHOWN if letter.get(c) is not None])
    records = letter.get("records") or []
    if records:
        columns = [c for c in letter["columns"] if any(r.get(c) is not None for r in records)]
        print_table(columns, [[r.get(c) for c in columns] for r in records], title="first records")


@dead.command()
@_ids
@click.option("--all", "every", is_flag=True, help="All there are.")
@_url
@json_option
def replay(ids: tuple[str, ...], url: str, *, every: bool, as_json: bool) -> int:
    """Put dead letters back into the queue, with no attempts counted."""
    _check_chosen(ids, every=every)
    client = connect(url)
    if every:
        return _do_all(lambda: client.send("POST", "/dead/replay", all="true"), "replayed", as_json=as_json)
    return _do_each(ids, lambda id_: client.send("POST", f"{_path(id_)}/replay"), "replayed", as_json=as_json)


@dead.command()
@_ids
@click.option("--all", "every", is_flag=True, help="All there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_url
@json_option
def drop(ids: tuple[str, ...], url: str, *, every: bool, yes: bool, as_json: bool) -> int:
    """Delete dead letters and their records for ever."""
    _check_chosen(ids, every=every)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("dropping is for ever: say --yes, there is nobody to ask")
        what = "all dead letters" if every else f"{len(ids)} dead letters" if len(ids) > 1 else ids[0]
        click.confirm(f"Drop {what} for ever?", abort=True, err=True)
    client = connect(url)
    if every:
        return _do_all(lambda: client.send("DELETE", "/dead", all="true"), "dropped", as_json=as_json)
    return _do_each(ids, lambda id_: client.send("DELETE", _path(id_)), "dropped", as_json=as_json)


def _path(message: str) -> str:
    return f"/dead/{quote_id(message)}"


def _check_chosen(ids: tuple[str, ...], *, every: bool) -> None:
    if bool(ids) == every:
        raise click.UsageError("say which: IDs, or --all")
    for id_ in ids:  # before anything is done with one of them
        quote_id(id_)


def _do_each(ids: tuple[str, ...], act: Callable[[str], Json], done: str, *, as_json: bool) -> int:
    """Do with each what was asked; one that fails is told and does not keep the others from it."""
    failed = False
    for id_ in ids:
        try:
            answer = act(id_)
        except PipelineError as exc:
            failed = True
            if as_json:
                print_json({"success": False, "error": {"code": exc.code, "message": exc.message}, "id": id_})
            click.echo(f"{click.style('error:', fg='red')} {id_}: {exc.message}", err=True)
            continue
        if as_json:
            print_json(answer)
        else:
            click.echo(f"{done} {id_}")
    return EXIT_FAILED if failed else 0


def _do_all(act: Callable[[], Json], done: str, *, as_json: bool) -> int:
    """Do it request by request until none is left, or the rest cannot be helped."""
    total, left = 0, 0
    while True:
        data: dict[str, Any] = act()["data"]
        total, left = total + data[done], data["left"]
        if not left or not data[done]:
            break
    if as_json:
        print_json({"success": not left, "data": {done: total, "left": left}})
    else:
        click.echo(f"{done} {total} dead letters" + (f", {left} are left" if left else ""))
    return EXIT_FAILED if left else 0
