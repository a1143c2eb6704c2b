"""What a container is made of, and what is made of what an engine says; no engine needed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import docker
import pytest
import requests
from docker.errors import APIError, DockerException

from local_runtime.containers.backend import connect
from local_runtime.containers.creation import (
    build_creation,
    find_program,
    parse_exit_status,
    select_environment,
)
from local_runtime.containers.engine import explain, find_process
from local_runtime.containers.image import describe_failure, digest_sources, parse_progress
from local_runtime.containers.life import copy_lines
from local_runtime.containers.tokens import TokenCopy
from local_runtime.instance import ChildSpec, describe_exit
from local_runtime.manifests import read_manifests
from local_runtime.plan import REPOSITORY, Options, build_plan
from shared.errors import BadConfig
from tests.containers import refusal
from tests.waiting import wait_until


def spec(**changes):
    given = {
        "name": "upload",
        "command": (str(Path(sys.executable).parent / "functions-framework"), "--target=upload"),
        "environment": {
            "PORT": "1",
            "HOSTNAME": "upload-00001-2",
            "PATH": "/home/me/bin",
            "HOME": "/home/me",
        },
        "own_variables": frozenset({"PORT", "HOSTNAME", "AUTH_TOKENS"}),
        "cwd": Path("/"),
        "log_path": Path("/nowhere.log"),
    }
    return ChildSpec(**{**given, **changes})


def engine(tokens_folder=None):
    # Nothing is asked of the client but to put options into words.
    api = docker.APIClient(base_url="unix:///nowhere.sock", version="1.41")
    return SimpleNamespace(api=api, image="image", labels={"a": "b"}, tokens_folder=tokens_folder)


class TestCreation:
    def test_only_what_concerns_the_program_enters(self):
        assert select_environment(spec()) == {"PORT": "1", "HOSTNAME": "upload-00001-2"}

    def test_a_container_has_no_rights(self):
        created = build_creation(spec(), engine())
        host = created["host_config"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["Tmpfs"] == {"/tmp": "size=64m,mode=1777"}
        assert "Memory" not in host
        assert not host.get("Mounts")
        assert created["use_config_proxy"] is False

    def test_the_command_replaces_the_images(self):
        created = build_creation(spec(), engine())
        assert created["entrypoint"] == ["functions-framework"]
        assert created["command"] == ["--target=upload"]

    def test_it_is_named_for_its_instance(self):
        created = build_creation(spec(), engine())
        assert created["name"].startswith("gpu-telemetry-upload-00001-2-")
        assert created["labels"] == {"a": "b", "gpu-telemetry.instance": "upload-00001-2"}

    def test_the_memory_limit_is_one_for_memory_and_swap(self):
        host = build_creation(spec(memory_limit_bytes=2**26), engine())["host_config"]
        assert (host["Memory"], host["MemorySwap"]) == (2**26, 2**26)

    def test_tokens_are_mounted_where_they_are_asked_for(self):
        environment = {"AUTH_TOKENS": "/home/me/tokens"}
        created = build_creation(spec(environment=environment), engine(Path("/data/secrets/mounted")))
        assert created["environment"]["AUTH_TOKENS"] == "/run/secrets/gpu-telemetry/tokens"
        [mount] = created["host_config"]["Mounts"]
        assert (mount["Source"], mount["Target"]) == ("/data/secrets/mounted", "/run/secrets/gpu-telemetry")
        assert mount["ReadOnly"] is True

    @pytest.mark.parametrize(
        ("program", "known_as"),
        [
            (str(Path(sys.executable).parent / "functions-framework"), "functions-framework"),
            ("python", "python"),
            ("/usr/bin/env", "/usr/bin/env"),
        ],
    )
    def test_what_stands_beside_this_python_is_on_the_images_path(self, program, known_as):
        assert find_program(program) == known_as

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (0, "exit status 0"),
            (3, "exit status 3"),
            (127, "exit status 127"),
            (137, "killed by SIGKILL"),
            (143, "killed by SIGTERM"),
            (255, "exit status 255"),
        ],
    )
    def test_an_exit_status_tells_a_signal(self, status, said):
        assert describe_exit(parse_exit_status(status)) == said


def test_a_plan_says_which_variables_concern_a_program(tmp_path):
    options = Options(
        data_dir=tmp_path,
        host="127.0.0.1",
        ports={},
        admin_port=1,
        manifests=REPOSITORY / "deploy" / "knative" / "base",
        etcd_endpoints=None,
        sample=False,
    )
    outer = {"PATH": "/bin", "HOME": "/root", "LOG_LEVEL": "debug", "VIRTUAL_ENV": "/venv", "THREADS": "3"}
    plan = build_plan(
        read_manifests(options.manifests), options, etcd_endpoints="127.0.0.1:9", environment=outer
    )
    [source] = plan.sources
    inside = select_environment(source)
    assert inside["LOG_LEVEL"] == "debug"
    assert inside["ETCD_ENDPOINTS"] == "127.0.0.1:9"
    assert inside["K_SINK"].startswith("http://")
    assert inside["PYTHONUNBUFFERED"] == "1"
    assert not {"PATH", "HOME", "VIRTUAL_ENV"} & set(inside)


class TestDigest:
    @pytest.fixture
    def sources(self, tmp_path):
        for name in (
            "Dockerfile",
            ".dockerignore",
            "pyproject.toml",
            "constraints.txt",
            "LICENSE",
            "README.md",
        ):
            shutil.copy(REPOSITORY / name, tmp_path / name)
        for name in ("functions", "shared"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "main.py").write_text("pass\n")
        return tmp_path

    @pytest.mark.parametrize("name", ["functions/main.py", "shared/main.py", "constraints.txt", "Dockerfile"])
    def test_what_goes_into_the_image_changes_it(self, sources, name):
        before = digest_sources(sources, "")
        (sources / name).write_text((sources / name).read_text() + "# more\n")
        assert digest_sources(sources, "") != before

    @pytest.mark.parametrize(
        "name", ["README.md", ".local/etcd/db", "shared/__pycache__/main.pyc", ".venv/x.py"]
    )
    def test_what_does_not_leaves_it(self, sources, name):
        before = digest_sources(sources, "")
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text("changed")
        assert digest_sources(sources, "") == before

    def test_moving_text_between_files_changes_it(self, sources):
        (sources / "functions" / "a.py").write_text("one")
        (sources / "functions" / "b.py").write_text("")
        before = digest_sources(sources, "")
        (sources / "functions" / "a.py").write_text("")
        (sources / "functions" / "b.py").write_text("one")
        assert digest_sources(sources, "") != before

    def test_another_base_is_another_image(self, sources):
        assert digest_sources(sources, "a") != digest_sources(sources, "b")


class TestBuild:
    def test_steps_are_told_in_short(self):
        assert parse_progress({"stream": "Step 3/9 : RUN one     && two\n"}) == "step 3 of 9: one && two"
        told = parse_progress({"stream": "Step 10/23 : RUN " + "x" * 100})
        assert told == "step 10 of 23: " + "x" * 57 + "..."

    def test_the_rest_is_not(self):
        assert parse_progress({"stream": " ---> 5c45d7d01175\n"}) is None
        assert parse_progress({"stream": "Step 3/9 : COPY shared shared\n"}) is None
        assert parse_progress({"aux": {"ID": "sha256:1"}}) is None

    def test_a_base_that_cannot_be_had_has_a_way_out(self):
        said = ["Step 1/9 : ARG BASE_IMAGE=x\n", " ---> \n", "Step 2/9 : FROM ${BASE_IMAGE} AS build\n"]
        assert "BASE_IMAGE=NAME" in describe_failure("pull access denied", said)

    def test_a_step_that_fails_says_its_last_words(self):
        said = ["Step 2/9 : FROM x\n", "Step 3/9 : RUN pip\n", "ERROR: No matching distribution\n"]
        assert describe_failure("The command returned 1", said) == (
            "the image cannot be built: The command returned 1: ERROR: No matching distribution"
        )


class TestConnecting:
    def test_no_engine_is_one_line_with_the_way_out(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        assert refusal(connect) == (
            f"no docker engine answers at unix://{tmp_path}/docker.sock: start one, "
            "say with DOCKER_HOST where it is, or leave out --backend docker"
        )

    @pytest.mark.parametrize("host", ["tcp://10.1.2.3:2375", "ssh://me@gpu-gateway"])
    def test_another_machines_engine_is_none(self, monkeypatch, host):
        monkeypatch.setenv("DOCKER_HOST", host)
        with pytest.raises(BadConfig, match="is another machine's"):
            connect()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            requests.ConnectionError("('Connection aborted.', ConnectionRefusedError(111))"),
            "the docker engine does not answer",
        ),
        (BrokenPipeError(32, "Broken pipe"), "the docker engine does not answer"),
        (requests.ReadTimeout("read timed out"), "the docker engine takes too long to answer"),
        (APIError("500 Server Error", explanation="no such\nprogram"), "no such program"),
        (APIError("500 Server Error"), "500 Server Error"),
        (DockerException("odd"), "odd"),
    ],
)
def test_what_an_engine_says_is_one_line(error, said):
    assert explain(error) == said


def test_a_process_that_is_not_of_the_container_is_not_taken_for_it():
    # An engine in a machine of its own tells a number that is another process here: it must not be killed.
    assert find_process("26acc8b14088", os.getpid()) is None
    assert find_process("26acc8b14088", 0) is None


class TestLog:
    def test_lines_are_written_whole(self, tmp_path):
        log = tmp_path / "logs" / "upload.log"
        seen = []

        def output():
            for chunk in (b"one\ntw", b"o", b"\n", b"three"):
                yield chunk
                seen.append(log.read_bytes())

        copy_lines(output(), log)
        assert seen == [b"one\n", b"one\n", b"one\ntwo\n", b"one\ntwo\n"]
        assert log.read_bytes() == b"one\ntwo\nthree\n"

    def test_a_line_without_end_is_not_kept_in_memory(self, tmp_path):
        log = tmp_path / "upload.log"
        copy_lines([b"x" * 40_000, b"y" * 40_000, b"z\n"], log)
        assert log.read_bytes() == b"x" * 40_000 + b"y" * 40_000 + b"\nz\n"

    def test_a_log_continues(self, tmp_path):
        log = tmp_path / "upload.log"
        copy_lines([b"first\n"], log)
        copy_lines([b"second\n"], log)
        assert log.read_bytes() == b"first\nsecond\n"


class TestTokens:
    def test_the_copy_follows_a_file_that_is_replaced(self, tmp_path):
        file = tmp_path / "tokens"
        file.write_text("read one")
        file.chmod(0o600)
        copy = TokenCopy(file, tmp_path / "data")
        copied = copy.folder / "tokens"
        assert copied.read_text() == "read one"
        assert copied.stat().st_mode & 0o777 == 0o444
        assert (tmp_path / "data" / "secrets").stat().st_mode & 0o777 == 0o700
        new = tmp_path / "new"
        new.write_text("read another")
        new.replace(file)
        wait_until(lambda: copied.read_text() == "read another")
        copy.close()
        assert not (tmp_path / "data" / "secrets").exists()

    def test_a_copy_left_by_a_killed_runtime_is_replaced(self, tmp_path):
        file = tmp_path / "tokens"
        file.write_text("read one")
        TokenCopy(file, tmp_path)
        file.write_text("read another")
        copy = TokenCopy(file, tmp_path)
        assert (copy.folder / "tokens").read_text() == "read another"
        copy.close()

    def test_a_file_that_is_not_there_is_said(self, tmp_path):
        with pytest.raises(BadConfig, match="cannot be given to containers"):
            TokenCopy(tmp_path / "tokens", tmp_path)
