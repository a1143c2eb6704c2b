"""The functions on the run's etcd, under one prefix for each test module."""

from __future__ import annotations

import contextlib
import secrets
from types import SimpleNamespace

import pytest

from shared.queue import Lease
from tests.csvs import wide_history
from tests.functions import running
from tests.integration.asking import store


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


@pytest.fixture(scope="module")
def fleet(pipeline):
    """Three GPUs with 40 records each, in two uploads; one with a field of its own, and milliseconds."""
    store(pipeline, wide_history(3, 20, host="node-t"))
    store(pipeline, wide_history(3, 20, host="node-t", start=20))
    rows = [f"2024-01-15T10:00:{s:02d}.{ms:03d}Z,GPU-own,{s},{ms}\n" for s, ms in ((1, 5), (2, 0), (3, 999))]
    store(pipeline, ("timestamp,uuid,temperature,My Own-Metric\n" + "".join(rows)).encode())
    return pipeline


@pytest.fixture
def lease(etcd):
    """A short lease to claim under."""
    lease = Lease(etcd, 2)
    yield lease
    lease.give_back()
