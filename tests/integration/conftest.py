"""The functions on the run's etcd, under one prefix for each test module."""

from __future__ import annotations

import contextlib
import secrets
from types import SimpleNamespace

import pytest

from shared.queue import Lease
from tests.functions import running


@pytest.fixture(scope="module")
def pipeline(etcd_endpoint, tmp_path_factory):
    """upload, collect and query; collect is driven by hand."""
    folder = tmp_path_factory.mktemp("functions")
    where = {"etcd": etcd_endpoint, "prefix": f"/test-{secrets.token_hex(6)}"}
    with contextlib.ExitStack() as stack:
        functions = {
            n: stack.enter_context(running(n, folder, **where)) for n in ("upload", "collect", "query")
        }
        yield SimpleNamespace(**functions, **where)


@pytest.fixture
def lease(etcd):
    """A short lease to claim under."""
    lease = Lease(etcd, 2)
    yield lease
    lease.give_back()
