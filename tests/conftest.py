"""What all tests share: one real etcd for the whole run, and a prefix of its own for each test."""

from __future__ import annotations

import secrets
import signal
import threading

import pytest

from local_runtime.embedded_etcd import running_etcd
from shared.etcd import Etcd
from shared.keys import Keys
from shared.queue import Queue


@pytest.fixture(scope="session")
def etcd_endpoint(tmp_path_factory):
    """The address of a real etcd on a free port."""
    with running_etcd(tmp_path_factory.mktemp("etcd")) as endpoint:
        yield endpoint


@pytest.fixture
def etcd(etcd_endpoint):
    client = Etcd([etcd_endpoint])
    yield client
    client.close()


@pytest.fixture
def prefix():
    return f"/test-{secrets.token_hex(6)}"


@pytest.fixture
def keys(prefix):
    return Keys(prefix)


@pytest.fixture
def queue(etcd, keys):
    return Queue(etcd, keys)


def pytest_configure() -> None:
    """Let Ctrl-C end what tests start, also where whoever started the tests has it ignored (a job of `&`)."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
