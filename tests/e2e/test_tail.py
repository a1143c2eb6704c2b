"""`gpu-telemetry tail` against a running pipeline."""

from __future__ import annotations

import json
import signal
import subprocess
import threading

import pytest

from local_runtime.ports import find_free_port
from tests.csvs import wide, wide_row
from tests.e2e.conftest import COMMAND, ENVIRONMENT, run
from tests.waiting import wait_until


class Tail:
    """A running tail, and what it has printed."""

    def __init__(self, pipeline, *arguments):
        self.process = subprocess.Popen(
            [COMMAND, "tail", "--url", pipeline.urls["query"], *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stderr.readline() == "listening: Ctrl-C ends it\n"
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(10)
        self._reader.join(5)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def tail(pipeline):
    started = []

    def tail(*arguments):
        started.append(Tail(pipeline, *arguments))
        return started[-1]

    yield tail
    for one in started:
        if one.process.poll() is None:
            one.process.kill()


def upload(pipeline, tmp_path, *rows):
    (tmp_path / "some.csv").write_bytes(wide(rows))
    done = pipeline.run("upload", tmp_path / "some.csv")
    assert done.returncode == 0, done.stderr


def test_records_are_printed_as_they_are_stored(pipeline, tail, tmp_path):
    every, one = tail("--host", "tail-*", "--json"), tail("--gpu", "GPU-tail-1", "--field", "power_draw")
    upload(pipeline, tmp_path, wide_row(host="tail-node", uuid="GPU-tail-0"), wide_row(uuid="GPU-tail-1"))
    wait_until(lambda: every.lines and one.lines)
    assert json.loads(every.lines[0])["uuid"] == "GPU-tail-0"
    assert one.lines == ["2024-01-15T10:30:00Z gpu-node-01 0 GPU-tail-1  power_draw=350.5\n"]
    assert (every.end(), one.end()) == (130, 130)


def test_what_is_refused_is_one_line(pipeline):
    done = pipeline.run("tail", "--field", "gpu_utilisation")
    assert done.returncode == 1
    assert "the nearest is 'gpu_utilization'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = run("tail", "--url", f"http://127.0.0.1:{find_free_port()}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
