"""The functions as processes of their own, as many of each as a test wants."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

from tests.functions import running


@contextlib.contextmanager
def running_functions(tmp_path, etcd, prefix, names=("upload", "collect", "query")):
    """Run functions on an etcd; a claim outlives its collector by 2 s."""
    with contextlib.ExitStack() as stack:
        yield SimpleNamespace(**{
            name: stack.enter_context(
                running(name, tmp_path, etcd=etcd, prefix=prefix, VISIBILITY_TIMEOUT="2s")
            )
            for name in names
        })  # fmt: skip
