"""The first thing a function imports: what makes the rest of its start shorter (docs/adr/0017).

A start from zero is imports for the most part: Python on one core, under its lock. Therefore, where
functions-framework loads a function, and nowhere else:

- The garbage collector looks on only now and then until the worker is forked. It would go over all that
  was imported again and again, and there is no garbage.
- A thread has the shared objects of pyarrow and grpc mapped and relocated, without Python's lock, while this
  thread imports what is Python for the most part.
- What libraries import and no function needs is left out, or loaded if it is used all the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from flask import has_app_context

#: Objects between two looks of the garbage collector, by default 700.
_GC_THRESHOLD = 200_000
#: In the order in which they are needed: only one is opened at a time, and the others wait.
_SHARED_OBJECTS = {
    "pydantic_core": ("_pydantic_core",),
    "grpc": ("_cython/cygrpc",),
    "pyarrow": ("lib", "_compute", "_csv", "_acero", "_fs", "_parquet"),
}
#: What pyarrow does without where it is not there: reading folders of files, which aggregations would bring
#: along (10 ms), file systems elsewhere, which Parquet would (4 ms), and what may be installed for others.
_LEFT_OUT = (
    "pyarrow.dataset",
    "pyarrow._s3fs",
    "pyarrow._gcsfs",
    "pyarrow._azurefs",
    "pyarrow._hdfs",
    "numpy",
    "pandas",
    "dateutil",
)
#: grpc for asyncio (9 ms), and messages of protobuf in Python where they are in C (3 ms).
_DEFERRED = ("asyncio", "grpc.aio", "google.protobuf.internal.python_message")
#: Reads docstrings, of which pyarrow makes those of 280 functions when it is imported (11 ms).
_DOCSTRINGS = "pyarrow.vendored.docscrape"


def _boot() -> None:
    collected = gc.get_threshold()
    gc.set_threshold(_GC_THRESHOLD)
    paths = list(_find_shared_objects())
    opener = threading.Thread(target=_open, args=(paths,), name="shared-objects", daemon=True)
    opener.start()
    # It would look through all packages that are installed for plugins (3 ms).
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # noqa: TID251  (read by pydantic)
    for name in _LEFT_OUT:
        # This is how Python is told that there is none.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    for name in _DEFERRED:
        defer(name)
    docstrings = defer(_DOCSTRINGS)
    if docstrings is not None:
        docstrings.NumpyDocString = lambda _text: defaultdict(list)  # type: ignore[attr-defined]

    def settle() -> None:
        # A child would wait for ever for what a thread that it does not have holds.
        opener.join()
        gc.set_threshold(*collected)
        # What is there now stays: neither looked at again, nor copied by the child because it is.
        gc.freeze()

    os.register_at_fork(before=settle)


def _find_shared_objects() -> Iterator[str]:
    for package, names in _SHARED_OBJECTS.items():
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield from (f"{folder}/{name}{EXTENSION_SUFFIXES[0]}" for name in names)


def _open(paths: Sequence[str]) -> None:
    for path in paths:
        # What is not there, or cannot be opened, fails where it is imported, and says more.
        with contextlib.suppress(OSError):
            ctypes.CDLL(path)


def defer(name: str) -> ModuleType | None:
    """Have a module that others import loaded when something of it is used; None where it is loaded."""
    if name in sys.modules:
        return None
    stand_in = ModuleType(name)

    def load(attribute: str) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    stand_in.__getattr__ = load  # type: ignore[method-assign]
    sys.modules[name] = stand_in
    return stand_in


if has_app_context():
    _boot()
    # Most of it is Python, and all functions need it: the time for the shared objects.
    importlib.import_module("shared.config")
