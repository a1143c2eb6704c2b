"""An import: files to upload, piece by piece; what is done is written down, so that a break costs a piece.

Sending a piece again changes nothing, for its rows keep their versions. So it is written down once upload has
answered, and a crash in between is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local_runtime.backup.files import UPLOADS, read_json, write_json
from local_runtime.backup.lock import holding
from local_runtime.backup.manifest import Manifest
from local_runtime.backup.patience import patiently
from local_runtime.backup.sources import (
    Piece,
    Source,
    check_source,
    find_sources,
    iter_requests,
    iter_stream,
    plan_pieces,
)
from shared.client import UNDONE, Client
from shared.errors import InvalidInput, NotFound

#: Records of uploads in one request, by bytes; upload takes 16 MiB.
_RECORDS_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Journal:
    """What of an import is done; one for each pipeline, for a folder may be imported into several."""

    file: Path
    #: By file: its size, and how many of its row groups are durable.
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    #: What the import has become so far.
    uploads: list[str] = field(default_factory=list)
    records_done: bool = False
    #: Why it could not be written down, if so.
    unwritable: str = ""

    def groups_done(self, source: Source) -> int:
        """Count the row groups of a file that are durable; a file that changed since begins anew."""
        known = self.files.get(source.name, {})
        return known["groups"] if known.get("bytes") == source.bytes else 0

    def note(self, request: Sequence[Piece], upload_id: str) -> None:
        """Write down that pieces are durable, and the upload that they became."""
        for piece in request:
            self.files[piece.source.name] = {"bytes": piece.source.bytes, "groups": piece.groups[-1] + 1}
        self.uploads.append(upload_id)
        self.save()

    def forget(self) -> None:
        """Begin anew."""
        self.files, self.uploads, self.records_done = {}, [], False

    def save(self) -> None:
        """Write it, whole or not at all; where that cannot be, remember why."""
        try:
            write_json(
                self.file,
                {"files": self.files, "uploads": self.uploads, "records_done": self.records_done},
            )
        except OSError as exc:
            self.unwritable = exc.strerror or str(exc)


@contextmanager
def opening_journal(folder: Path, url: str) -> Iterator[Journal]:
    """Read what of an import into one pipeline is done, and keep other imports from writing there.

    Raises:
        Conflict: One is under way.
        InvalidInput: The journal is none.
    """
    where = re.sub(r"[^A-Za-z0-9.]+", "-", urlsplit(url).netloc)
    journal = Journal(folder / f".import-{where}.json")
    with ExitStack() as stack:
        # Where nothing can be written there is no journal either.
        with suppress(OSError):
            held = f"another import of {folder} into {url} is under way"
            stack.enter_context(holding(folder / f".import-{where}.lock", held))
        _load(journal)
        yield journal


def _load(journal: Journal) -> None:
    found = read_json(journal.file)
    if found is not None:
        try:
            journal.files, journal.uploads = dict(found["files"]), list(found["uploads"])
            journal.records_done = bool(found["records_done"])
        except (KeyError, TypeError) as exc:
            raise InvalidInput(f"{journal.file} is not what an import writes: delete it") from exc


@dataclass(slots=True)
class Outcome:
    """What an import did; `rows` and `files` count what it found done too."""

    files: int = 0
    rows: int = 0
    nulled: int = 0
    records_put: int = 0
    records_present: int = 0
    warnings: dict[str, None] = field(default_factory=dict)


#: Told how many files are done, of how many, and the rows so far.
Tell = Callable[[int, int, int], None]


def import_rows(
    client: Client,
    folder: Path,
    manifest: Manifest | None,
    journal: Journal,
    *,
    request_rows: int,
    tell: Tell,
) -> Outcome:
    """Send what is not done yet; on return everything is durable in the queue.

    Raises:
        InvalidInput: A file cannot be imported: names it and why.
        PipelineError: Upload does not answer; what is done is done, and the next call goes on.
    """
    sources = find_sources(folder, manifest)
    out = Outcome(files=len(sources))

    def pieces() -> Iterator[Piece]:
        for number, source in enumerate(sources):
            tell(number, len(sources), out.rows)
            counts, done = check_source(source), journal.groups_done(source)
            out.rows += sum(counts[:done])
            yield from plan_pieces(source, counts, done, request_rows)

    for request in iter_requests(pieces(), request_rows):
        report = patiently(partial(_send, client, request))
        journal.note(request, report["upload_id"])
        out.rows += sum(piece.rows for piece in request)
        out.nulled += report["values_nulled"]
        out.warnings |= dict.fromkeys(report["warnings"])
    tell(len(sources), len(sources), out.rows)
    return out


def _send(client: Client, request: Sequence[Piece]) -> dict[str, Any]:
    name = request[0].source.name + (f" and {len(request) - 1} more" if request[1:] else "")
    stream = (block for piece in request for block in iter_stream(piece))
    return dict(client.import_rows(name, stream)["data"])


def import_records(client: Client, folder: Path, journal: Journal, out: Outcome) -> None:
    """Send the records of the uploads, if the folder has them and it is not done."""
    file = folder / UPLOADS
    if journal.records_done or not file.is_file():
        return
    for lines in _iter_pages(file):
        data = patiently(partial(client.import_uploads, lines))["data"]
        out.records_put += data["put"]
        out.records_present += data["present"]
    journal.records_done = True
    journal.save()


def _iter_pages(file: Path) -> Iterator[bytes]:
    page = b""
    with file.open("rb") as lines:
        for line in lines:
            if page and len(page) + len(line) > _RECORDS_BYTES:
                yield page
                page = b""
            page += line
    if page.strip():
        yield page


def is_known(client: Client, journal: Journal) -> bool:
    """Tell whether the pipeline has all that was sent: it may have been emptied, or an upload undone."""
    try:
        return all(client.read_upload(upload)["data"]["state"] not in UNDONE for upload in journal.uploads)
    except NotFound:
        return False
