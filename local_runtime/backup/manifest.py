"""The manifest of an export: what it was to fetch, and what of it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from local_runtime.backup.files import MANIFEST, read_json, write_json
from local_runtime.backup.parts import Part
from shared import clock
from shared.errors import InvalidInput

#: Written into each manifest; a newer one is refused.
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A finished file of an export."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(slots=True, kw_only=True)
class Manifest:
    """What an export is; `save` it after each change."""

    #: The query function that it is fetched from.
    url: str
    created_ms: int
    #: What was received before is in it; what came later may be, where it stands beside older rows.
    until_ms: int
    #: Messages that waited in the queue when it began: not in it.
    queued: int
    parts: list[Part]
    finished_ms: int | None = None
    #: The files of each part that is done; a part may have no rows, and then no file.
    done: dict[int, list[File]] = field(default_factory=dict)
    #: Every column that some file has.
    columns: list[str] = field(default_factory=list)
    uploads: File | None = None

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        done = {str(part): [asdict(file) for file in files] for part, files in self.done.items()}
        write_json(
            folder / MANIFEST,
            {
                "format": FORMAT,
                "what": "an export of gpu-telemetry: Parquet by UTC day of the records, with their versions",
                "created": clock.format_utc(self.created_ms / 1000),
                "until": clock.format_utc(self.until_ms / 1000),
                **{name: getattr(self, name) for name in _PLAIN},
                "uploads": None if self.uploads is None else asdict(self.uploads),
                "parts": [asdict(part) for part in self.parts],
                "done": done,
            },
        )

    def files(self) -> list[File]:
        """List the finished Parquet files, in order of parts."""
        return [file for part in sorted(self.done) for file in self.done[part]]

    def rows(self) -> int:
        """Count the rows of the finished files."""
        return sum(file.rows for file in self.files())


_PLAIN = ("url", "created_ms", "until_ms", "queued", "finished_ms", "columns")


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a folder; None where it has none.

    Raises:
        InvalidInput: It is none, or of a newer version.
    """
    found = read_json(folder / MANIFEST)
    if found is None:
        return None
    try:
        if found["format"] > FORMAT:
            raise InvalidInput(f"{folder / MANIFEST} is of a newer version: update gpu-telemetry")
        return _parse(found)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InvalidInput(f"{folder / MANIFEST} is not the manifest of an export ({exc!r})") from exc


def _parse(found: dict[str, Any]) -> Manifest:
    uploads = found["uploads"]
    return Manifest(
        **{name: found[name] for name in _PLAIN},
        parts=[Part(**part) for part in found["parts"]],
        done={int(part): [File(**file) for file in files] for part, files in found["done"].items()},
        uploads=None if uploads is None else File(**uploads),
    )
