"""The files of an export: their names, and how each comes to be, whole or not at all.

  manifest.json                      what is exported, in which parts, and which of them are done
  gpus.json                          the GPUs that there were when it began
  date=YYYY-MM-DD/part-NNNNN.parquet the rows of one part and one UTC day of their timestamps
  uploads.ndjson                     the records of the uploads
  *.tmp                              what a break left behind: worth nothing

A file is written under a name that ends in .tmp, brought to the disk, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.errors import InvalidInput

MANIFEST = "manifest.json"
GPUS = "gpus.json"
UPLOADS = "uploads.ndjson"
TEMPORARY = ".tmp"

_PARQUET = re.compile(r"date=\d{4}-\d{2}-\d{2}/part-\d{5}\.parquet(\.tmp)?")
_OURS = re.compile(r"(manifest\.json|gpus\.json|uploads\.ndjson|part-\d{5}\.arrows)(\.tmp)?")


def parquet_name(date: str, part: int) -> str:
    """Name the file of one part and day."""
    return f"date={date}/part-{part:05d}.parquet"


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a place to write a file to; it is at its own name, and on the disk, when the block ends well."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + TEMPORARY)
    yield temporary
    _sync(temporary)
    temporary.replace(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any:
    """Read a value that `write_json` wrote; None where there is no such file.

    Raises:
        InvalidInput: It cannot be read.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise InvalidInput(f"{file} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise InvalidInput(f"{file} is not JSON: {exc}") from exc


def hash_file(file: Path) -> str:
    """Hash a file's bytes, SHA-256."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def list_ours(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the files of a folder: those that an export writes, and the others (dotfiles left out)."""
    ours: list[Path] = []
    others: list[Path] = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_dir() or name.startswith("."):
            continue
        (ours if _PARQUET.fullmatch(name) or _OURS.fullmatch(name) else others).append(file)
    return ours, others
