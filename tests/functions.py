"""The three functions as processes of functions-framework, and HTTP against them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import urllib3

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Function:
    """One running function."""

    def __init__(self, port, process, log):
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self.log = log
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(60))

    def call(self, method, path, **how):
        """Return (status, JSON or bytes, headers)."""
        answer = self._http.request(method, self.url + path, **how)
        body = answer.data
        if answer.headers.get("content-type", "").startswith("application/json"):
            body = json.loads(body)
        return answer.status, body, answer.headers

    def get(self, path):
        status, body, _ = self.call("GET", path)
        return status, body

    def upload(self, data, content_type="text/csv", query=""):
        status, body, _ = self.call(
            "POST", f"/api/v1/csv/upload{query}", body=data, headers={"Content-Type": content_type}
        )
        return status, body


@contextlib.contextmanager
def running(name, tmp_path, *, etcd, prefix, program=None, port=None, **environment):
    """Start a function on a free port, and kill it at the end."""
    port = port or free_port()
    log = tmp_path / f"{name}-{port}.log"
    command = program or [
        str(Path(sys.executable).parent / "functions-framework"),
        f"--source=functions/{name}/main.py",
        f"--target={name}",
        "--host=127.0.0.1",
    ]
    env = {
        **os.environ,
        "PORT": str(port),
        "ETCD_ENDPOINTS": etcd,
        "MESSAGE_QUEUE_PREFIX": prefix,
        "THREADS": "8",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**env, **environment}, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_until(lambda: _accepts(port) or process.poll() is not None, 30)
        assert process.poll() is None, log.read_text()
        yield Function(port, process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def _accepts(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0
