"""The first thing a function imports: what makes the rest of its start shorter (docs/adr/0018).

A start from zero is imports for the most part. Therefore, where functions-framework loads a function, and
nowhere else:

- The garbage collector looks on only now and then until the worker is forked. It would go over all that
  was imported again and again, and there is no garbage.
- Shared objects are linked as they are called, and dataclasses compiled: of the five or six methods that are
  generated for each, hardly any but the constructor ever is.
- What libraries import and no function needs is left out, or loaded if it is used all the same.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from flask import has_app_context

#: Objects between two looks of the garbage collector, by default 700.
_GC_THRESHOLD = 200_000
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
#: Packages of which only a part is used: here without their clients (3 ms), which docs/adr/0001 is about.
_BARE = ("etcd3",)
#: What compiles the methods of dataclasses (15 ms); from Python 3.13 on there is no such thing, nor a need.
_CREATE = "_create_fn"
#: Reads docstrings, of which pyarrow makes those of 280 functions when it is imported (11 ms).
_DOCSTRINGS = "pyarrow.vendored.docscrape"


def _boot() -> None:
    collected = gc.get_threshold()
    gc.set_threshold(_GC_THRESHOLD)
    create = getattr(dataclasses, _CREATE, None)

    def settle() -> None:
        if create is not None:
            setattr(dataclasses, _CREATE, create)
        gc.set_threshold(*collected)
        # What is there now stays: neither looked at again, nor copied by the child because it is.
        gc.freeze()

    os.register_at_fork(before=settle)
    if create is not None:
        setattr(dataclasses, _CREATE, put_off(create))
    sys.setdlopenflags(os.RTLD_LAZY)
    # It would look through all packages that are installed for plugins (3 ms).
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # noqa: TID251  (read by pydantic)
    for name in _LEFT_OUT:
        # This is how Python is told that there is none.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    for name in _DEFERRED:
        defer(name)
    for name in _BARE:
        make_bare(name)
    docstrings = defer(_DOCSTRINGS)
    if docstrings is not None:
        docstrings.NumpyDocString = lambda _text: defaultdict(list)  # type: ignore[attr-defined]


def put_off(create: Callable[..., Any]) -> Callable[..., Any]:
    """Have what makes methods of source text make them when they are first called, but for constructors."""

    def create_later(name: str, *args: Any, **how: Any) -> Any:
        if name == "__init__":  # inspect asks for its parameters
            return create(name, *args, **how)
        compiled = cache(partial(create, name, *args, **how))

        def method(*given: Any) -> Any:
            return compiled()(*given)

        method.__name__ = name
        return method

    return create_later


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


def make_bare(name: str) -> None:
    """Have the modules of a package imported without what the package itself imports."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        package = ModuleType(name)
        package.__path__ = spec.submodule_search_locations
        sys.modules[name] = package


if has_app_context():
    _boot()
