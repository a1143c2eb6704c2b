"""What the tests of faults share: chance with a seed that is printed, a line of what was done, a sound etcd.

`make test-faults` runs them, `make test-faults FAULTS=long` for some ten times as long.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys

import pytest

from local_runtime.etcd_binary import find_etcd, is_sound
from tests.e2e.conftest import start  # noqa: F401  (a fixture)


@pytest.fixture(scope="session")
def scale():
    """How many times more than in CI is done."""
    return 10 if os.environ.get("FAULTS") == "long" else 1


@pytest.fixture
def say(request, capsys):
    """Prints a line that is seen though the test succeeds."""

    def say(line):
        with capsys.disabled():
            sys.stdout.write(f"\n  {request.node.name}: {line}\n")
            sys.stdout.flush()

    return say


@pytest.fixture
def chance(say):
    seed = int(os.environ.get("FAULTS_SEED") or secrets.randbits(32))
    say(f"FAULTS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def sound_etcd():
    """An etcd that keeps what it acknowledged though it is killed (etcd-io/etcd#13766)."""
    binary = find_etcd(os.environ["PATH"])
    if not is_sound(binary.version):
        said = f"etcd {binary.version_text} may lose acknowledged writes when killed: install etcd-server"
        if os.environ.get("CI") == "true" and shutil.which("etcd"):
            pytest.fail(f"{said}; the one on PATH is no better")
        pytest.skip(said)
    return binary
