"""Who runs on a data directory: only who holds its lock, and nobody else is ever taken for him."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from local_runtime.commands.down import ask_to_end, wait_gone
from local_runtime.detach import start_detached
from local_runtime.running import announce, find_pid, is_alive, lock_data_dir, read_running, signed
from shared.errors import Conflict
from tests.waiting import wait_until

WHERE = {"host": "127.0.0.1", "urls": {"query": "http://127.0.0.1:1"}, "admin": "http://127.0.0.1:2"}


@contextmanager
def holder(data_dir, *, signs=True, says=""):
    """Another process that holds the lock as a runtime does."""
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from local_runtime.running import announce, lock_data_dir, signed\n"
        "from contextlib import nullcontext\n"
        f"data_dir = Path({str(data_dir)!r})\n"
        "with lock_data_dir(data_dir) as lock:\n"
        f"    with signed(data_dir, lock) if {signs} else nullcontext():\n"
        f"        {says or 'pass'}\n"
        "        print('there', flush=True)\n"
        "        sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


@pytest.fixture
def stranger():
    """A process that has nothing to do with it."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.stdin.close()
    process.wait(10)


def test_a_runtime_that_is_ready_is_found_and_gone_at_the_end(tmp_path):
    with lock_data_dir(tmp_path) as lock, signed(tmp_path, lock):
        assert find_pid(tmp_path) == os.getpid()
        assert read_running(tmp_path) is None
        running = announce(tmp_path, **WHERE)
        assert read_running(tmp_path) == running
        assert running.pid == os.getpid()
        assert running.urls == WHERE["urls"]
    assert not is_alive(tmp_path)
    assert find_pid(tmp_path) is None
    assert not (tmp_path / "runtime.json").exists()


def test_nothing_runs_where_nothing_is(tmp_path):
    assert not is_alive(tmp_path / "none")
    assert read_running(tmp_path / "none") is None
    assert ask_to_end(tmp_path / "none", signal.SIGTERM) is None
    assert wait_gone(tmp_path / "none", 0)


def test_what_a_killed_runtime_has_left_points_at_nobody(tmp_path, stranger):
    with lock_data_dir(tmp_path) as lock, signed(tmp_path, lock):
        announce(tmp_path, **WHERE)
        left = json.loads((tmp_path / "runtime.json").read_text())
    left["pid"] = stranger.pid
    (tmp_path / "runtime.json").write_text(json.dumps(left))
    (tmp_path / "lock").write_text(f"{stranger.pid}\n")
    assert not is_alive(tmp_path)
    assert read_running(tmp_path) is None
    assert ask_to_end(tmp_path, signal.SIGKILL) is None
    assert stranger.poll() is None


def test_a_stranger_with_the_pid_is_not_signalled_while_another_holds_the_lock(tmp_path, stranger):
    # A runtime that has the lock and has not signed it yet, or the guard of one that was killed.
    with holder(tmp_path, signs=False) as process:
        (tmp_path / "lock").write_text(f"{stranger.pid}\n")
        assert is_alive(tmp_path)
        assert find_pid(tmp_path) is None
        assert ask_to_end(tmp_path, signal.SIGKILL) is None
        assert not wait_gone(tmp_path, 0)
        assert process.poll() is None
    assert stranger.poll() is None


def test_who_only_has_the_lock_file_open_is_no_runtime(tmp_path):
    with (tmp_path / "lock").open("w") as waits:
        waits.write(str(os.getpid()))
        waits.flush()
        assert find_pid(tmp_path) is None


def as_nobody(call):
    """What a call raises when another user makes it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setuid(65534)
        try:
            call()
        except BaseException as exc:  # noqa: BLE001  (nothing may go on as a second pytest)
            os.write(writing, repr(exc).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        return told.read()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_runtime_of_somebody_else_is_said_to_be_and_can_still_be_looked_at():
    with (
        TemporaryDirectory() as folder,
        holder(Path(folder), says=f"announce(data_dir, **{WHERE})") as process,
    ):
        data_dir = Path(folder)
        data_dir.chmod(0o755)
        said = as_nobody(lambda: ask_to_end(data_dir, signal.SIGTERM))
        assert f"process {process.pid}) is somebody else's" in said
        assert as_nobody(lambda: read_running(data_dir).pid) == ""
        data_dir.chmod(0o700)
        assert "is somebody else's" in as_nobody(lambda: is_alive(data_dir))
        assert as_nobody(lambda: read_running(data_dir)) == ""
        assert process.poll() is None


def test_the_holder_is_signalled_and_waited_for(tmp_path):
    with holder(tmp_path) as process:
        assert ask_to_end(tmp_path, signal.SIGTERM) == process.pid
        assert wait_gone(tmp_path, 10)
        assert process.wait(10) == -signal.SIGTERM


def test_a_file_of_the_runtime_before_is_not_taken_for_this_one(tmp_path):
    stale = {"pid": 1, "started_at": "2026-01-01T00:00:00+00:00", **WHERE}
    (tmp_path / "runtime.json").write_text(json.dumps(stale))
    with lock_data_dir(tmp_path) as lock, signed(tmp_path, lock):
        assert not (tmp_path / "runtime.json").exists()
        (tmp_path / "runtime.json").write_text(json.dumps(stale))
        assert read_running(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '"x"', "null"])
def test_a_file_that_is_none_is_nobody(tmp_path, text):
    with lock_data_dir(tmp_path) as lock, signed(tmp_path, lock):
        (tmp_path / "runtime.json").write_text(text)
        assert read_running(tmp_path) is None


def test_a_newer_runtimes_file_is_read(tmp_path):
    with lock_data_dir(tmp_path) as lock, signed(tmp_path, lock):
        running = announce(tmp_path, **WHERE)
        written = json.loads((tmp_path / "runtime.json").read_text())
        (tmp_path / "runtime.json").write_text(json.dumps({**written, "more": 1}))
        assert read_running(tmp_path) == running


def test_looking_does_not_take_the_lock_from_others_who_look(tmp_path):
    (tmp_path / "lock").write_text("")
    with (tmp_path / "lock").open() as looks:
        fcntl.flock(looks, fcntl.LOCK_SH)
        assert not is_alive(tmp_path)


def test_a_second_runtime_in_the_background_is_refused_at_once(tmp_path):
    with lock_data_dir(tmp_path) as lock, signed(tmp_path, lock):
        with pytest.raises(Conflict, match=rf"process {os.getpid()}\) .*`gpu-telemetry down "):
            start_detached(["up"], tmp_path)
        assert not (tmp_path / "logs").exists()


def test_the_pid_in_the_lock_is_of_now(tmp_path):
    (tmp_path / "lock").write_text("123456789012345\n")
    with holder(tmp_path) as process:
        wait_until(lambda: find_pid(tmp_path) == process.pid)
    assert not is_alive(tmp_path)
