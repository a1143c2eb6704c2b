"""Programs in real containers: the image of the sources, on the engine that answers here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import urllib3

from local_runtime.containers.image import digest_sources
from local_runtime.instance import ChildSpec
from local_runtime.plan import REPOSITORY
from local_runtime.ports import find_free_port
from tests.containers import BASE_IMAGE, list_containers, need_image, refusal, start_backend
from tests.csvs import wide_history
from tests.waiting import wait_until

#: Says what a program finds inside.
LOOK_AROUND = """
import json, os, pathlib
def may_write(path):
    try:
        pathlib.Path(path).write_text("x")
        return True
    except OSError:
        return False
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "uid": os.getuid(),
    "environment": dict(os.environ),
    "may_write": [path for path in ("/x", "/app/x", "/opt/venv/x", "/tmp/x", "/dev/shm/x") if may_write(path)],
    "capabilities": status["CapEff"].strip(),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "compiled": os.path.isdir("/app/functions/upload/__pycache__"),
}), flush=True)
"""
SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
#: A worker takes too much; its parent would go on.
GREEDY_WORKER = (
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(2**28)']); " + SLEEP
)


@pytest.fixture(scope="module", autouse=True)
def image():
    need_image()


@pytest.fixture
def backend(tmp_path):
    backend = start_backend(tmp_path / "data")
    yield backend
    backend.close()
    assert list_containers(tmp_path / "data") == []


@pytest.fixture
def make(backend, tmp_path):
    def make(name, *command, environment=None, **changes):
        environment = environment or {}
        given = {
            "name": name,
            "command": command,
            "environment": {"PATH": "/this/machines", **environment},
            "own_variables": frozenset(environment),
            "cwd": REPOSITORY,
            "log_path": tmp_path / "data" / "logs" / f"{name}.log",
        }
        return backend.make(ChildSpec(**{**given, **changes}))

    return make


@pytest.fixture
def start_upload(make, etcd_endpoint, prefix):
    def start_upload(name="upload", **environment):
        port = find_free_port()
        container = make(
            name,
            "functions-framework",
            "--source=functions/upload/main.py",
            "--target=upload",
            environment={
                "PORT": str(port),
                "HOST": "127.0.0.1",
                "ETCD_ENDPOINTS": etcd_endpoint,
                "MESSAGE_QUEUE_PREFIX": prefix,
                "HOSTNAME": name,
                **environment,
            },
            address=("127.0.0.1", port),
        )
        container.start()
        return container

    return start_upload


def wait_ready(*containers):
    for container in containers:
        wait_until(lambda c=container: c.is_ready() or c.exit_code() is not None, 30)
        assert container.exit_code() is None, container.describe_exit()


def wait_exit(container):
    return wait_until(lambda: container.exit_code() is not None, 30) and container.exit_code()


def read_log(container):
    return container.spec.log_path.read_text() if container.spec.log_path.exists() else ""


def upload(container, rows, **headers):
    host, port = container.spec.address
    body = wide_history(1, rows)
    answer = urllib3.request(
        "POST",
        f"http://{host}:{port}/api/v1/csv/upload",
        body=body,
        headers={"Content-Type": "text/csv", **headers},
        retries=False,
    )
    return answer.status, json.loads(answer.data)


class TestInside:
    def test_a_program_is_shut_in(self, make):
        container = make("look", "python", "-c", LOOK_AROUND, environment={"K_SERVICE": "look"})
        container.start()
        assert wait_exit(container) == 0
        found = json.loads(read_log(container))
        assert found["uid"] == 65532
        assert found["may_write"] == ["/tmp/x", "/dev/shm/x"]
        assert int(found["capabilities"], 16) == 0
        assert found["no_new_privileges"] == "1"
        assert found["compiled"]

    def test_only_what_concerns_it_is_in_its_environment(self, make):
        container = make("look", "python", "-c", LOOK_AROUND, environment={"K_SERVICE": "look"})
        container.start()
        wait_exit(container)
        environment = json.loads(read_log(container))["environment"]
        assert environment["K_SERVICE"] == "look"
        assert "/this/machines" not in environment["PATH"]
        assert not {name for name in os.environ if name.startswith(("PYTEST", "VIRTUAL_ENV"))} & set(
            environment
        )

    def test_tokens_are_asked_for_and_followed(self, etcd_endpoint, prefix, tmp_path):
        tokens = tmp_path / "tokens"
        tokens.write_text("ingest 0123456789abcdef-one\n")
        tokens.chmod(0o600)
        backend = start_backend(tmp_path / "other", auth_tokens=tokens)
        port = find_free_port()
        environment = {
            "PORT": str(port),
            "HOST": "127.0.0.1",
            "ETCD_ENDPOINTS": etcd_endpoint,
            "MESSAGE_QUEUE_PREFIX": prefix,
            "AUTH_TOKENS": str(tokens),
        }
        container = backend.make(
            ChildSpec(
                name="upload",
                command=("functions-framework", "--source=functions/upload/main.py", "--target=upload"),
                environment=environment,
                own_variables=frozenset(environment),
                cwd=REPOSITORY,
                log_path=tmp_path / "upload.log",
                address=("127.0.0.1", port),
            )
        )
        container.start()
        try:
            wait_ready(container)
            assert upload(container, 3)[0] == 401
            assert upload(container, 3, Authorization="Bearer 0123456789abcdef-one")[0] == 200
            new = tmp_path / "new"
            new.write_text("ingest 0123456789abcdef-two\n")
            new.replace(tokens)
            wait_until(lambda: upload(container, 3, Authorization="Bearer 0123456789abcdef-two")[0] == 200)
            assert upload(container, 3, Authorization="Bearer 0123456789abcdef-one")[0] == 401
        finally:
            backend.close()


class TestServing:
    def test_several_answer_and_one_that_is_killed_is_told(self, start_upload):
        containers = [start_upload(f"upload-{number}") for number in range(3)]
        wait_ready(*containers)
        assert len({container.pid for container in containers}) == 3
        for container in containers:
            status, answer = upload(container, 50)
            assert (status, answer["data"]["accepted"]) == (200, 50)
        first, *others = containers
        os.kill(first.pid, signal.SIGKILL)
        assert wait_exit(first) == -signal.SIGKILL
        assert first.describe_exit() == "killed by SIGKILL"
        assert not first.is_ready()
        assert [upload(other, 5)[0] for other in others] == [200, 200]
        first.clear()
        assert (first.pid, first.exit_code()) == (None, None)
        # On the same port, at once: the one before is waited for.
        first.start()
        wait_ready(first)
        assert upload(first, 5)[0] == 200

    def test_a_request_in_flight_is_answered_after_sigterm(self, start_upload):
        container = start_upload(GUNICORN_LOG_LEVEL="info")
        wait_ready(container)
        body = wide_history(1, 40)
        with socket.create_connection(container.spec.address, timeout=30) as connection:
            head = f"POST /api/v1/csv/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            connection.sendall(
                f"{head}Content-Type: text/csv\r\nConnection: close\r\n\r\n".encode() + body[:100]
            )
            # One that came later is answered: this one is being worked on.
            assert upload(container, 1)[0] == 200
            container.terminate()
            wait_until(lambda: "Handling signal: term" in read_log(container))
            assert container.exit_code() is None
            connection.sendall(body[100:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["data"]["accepted"] == 40
        assert wait_exit(container) == 0


class TestEnding:
    def test_memory_over_the_limit_ends_all_of_it(self, make):
        container = make("greedy", "python", "-c", GREEDY_WORKER, memory_limit_bytes=2**26)
        container.start()
        assert wait_exit(container) == -signal.SIGKILL
        assert container.describe_exit() == "killed: it took more memory than its limit of 64 MiB"
        line = json.loads(wait_until(lambda: read_log(container)).splitlines()[-1])
        assert line["message"] == container.describe_exit()

    def test_sigterm_before_a_handler_is_installed_ends_it(self, make):
        container = make("sleep", "python", "-c", SLEEP)
        container.start()
        wait_until(lambda: container.pid is not None)
        container.terminate()
        assert wait_exit(container) == -signal.SIGTERM

    def test_one_that_does_not_listen_is_cleared(self, make, tmp_path):
        container = make("stubborn", "python", "-c", STUBBORN)
        container.start()
        wait_until(lambda: "up" in read_log(container))
        container.terminate()
        assert container.exit_code() is None
        container.clear()
        wait_until(lambda: list_containers(tmp_path / "data") == [])

    def test_terminated_before_it_runs_it_never_does(self, make, tmp_path):
        container = make("sleep", "python", "-c", SLEEP)
        container.start()
        container.terminate()
        assert wait_exit(container) == -signal.SIGTERM
        container.clear()
        wait_until(lambda: list_containers(tmp_path / "data") == [])

    def test_cleared_before_it_runs_it_leaves_nothing(self, make, tmp_path):
        container = make("sleep", "python", "-c", SLEEP)
        container.start()
        container.clear()
        container.start()
        wait_until(container.is_ready)
        assert len(list_containers(tmp_path / "data")) == 1

    @pytest.mark.parametrize("status", [0, 3])
    def test_an_exit_status_is_known(self, make, status):
        container = make("exit", "python", "-c", f"import sys; print('gone'); sys.exit({status})")
        container.start()
        assert wait_exit(container) == status
        assert container.describe_exit() == f"exit status {status}"
        assert read_log(container) == "gone\n"

    def test_a_program_that_is_not_there_says_so(self, make):
        container = make("absent", "no-such-program")
        container.start()
        assert wait_exit(container) == 127
        assert "no-such-program" in read_log(container)


class TestBackend:
    def test_what_a_killed_runtime_left_is_removed(self, tmp_path):
        program = f"""
import os, pathlib, signal, sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from tests.containers import start_backend
from local_runtime.containers.image import digest_sources
from local_runtime.instance import ChildSpec
backend = start_backend(pathlib.Path({str(tmp_path / "killed")!r}))
container = backend.make(ChildSpec(name="left", command=("sleep", "600"), environment={{}}, cwd=pathlib.Path("/"),
    log_path=pathlib.Path({str(tmp_path / "left.log")!r})))
container.start()
while container.pid is None: time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
        done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        assert len(list_containers(tmp_path / "killed")) == 1
        start_backend(tmp_path / "other").close()
        assert len(list_containers(tmp_path / "killed")) == 1
        backend = start_backend(tmp_path / "killed")
        assert backend.told == ["removed 1 container that a killed runtime had left"]
        assert list_containers(tmp_path / "killed") == []
        backend.close()

    def test_the_end_of_a_container_is_told_at_once(self, tmp_path):
        changes = []
        backend = start_backend(tmp_path / "data")
        backend.on_change = lambda: changes.append(1)
        spec = ChildSpec(
            name="short", command=("true",), environment={}, cwd=REPOSITORY, log_path=tmp_path / "short.log"
        )
        container = backend.make(spec)
        container.start()
        wait_exit(container)
        wait_until(lambda: len(changes) == 2)
        backend.close()

    def test_a_renewed_image_is_what_starts_next(self, tmp_path):
        sources = tmp_path / "sources"
        sources.mkdir()
        (sources / "Dockerfile").write_text(
            f"FROM gpu-telemetry:{digest_sources(REPOSITORY, BASE_IMAGE)}\nENV SAYS=one\n"
        )
        backend = start_backend(tmp_path / "data", sources=sources, base_image="")
        container = backend.make(
            ChildSpec(
                name="says",
                command=("printenv", "SAYS"),
                environment={},
                cwd=REPOSITORY,
                log_path=tmp_path / "says.log",
            )
        )
        container.start()
        wait_exit(container)
        container.clear()
        (sources / "Dockerfile").write_text((sources / "Dockerfile").read_text().replace("one", "two"))
        assert backend.renew_image(lambda _name, _text: None) == ""
        container.start()
        wait_exit(container)
        backend.close()
        assert read_log(container) == "one\ntwo\n"

    def test_a_build_that_fails_says_why_and_changes_nothing(self, tmp_path):
        sources = tmp_path / "sources"
        sources.mkdir()
        (sources / "Dockerfile").write_text("FROM scratch\n\nCOPY no-such-file /\n")
        said = refusal(lambda: start_backend(tmp_path / "data", sources=sources, base_image=""))
        assert said.startswith("the image cannot be built: ")
        assert "no-such-file" in said
        assert "\n" not in said

    def test_an_image_that_is_not_there_is_said(self, tmp_path):
        assert refusal(lambda: start_backend(tmp_path, image="no/such:image")) == (
            "the engine has no image 'no/such:image': docker images lists those it has"
        )

    def test_an_image_of_ones_own_is_taken(self, tmp_path):
        image = f"gpu-telemetry:{digest_sources(REPOSITORY, BASE_IMAGE)}"
        start_backend(tmp_path, image=image).close()
