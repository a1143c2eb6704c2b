"""`gpu-telemetry up` with tokens: the command, the queue source and cron each bring theirs."""

from __future__ import annotations

import pytest

from local_runtime.plan import REPOSITORY
from tests.e2e.conftest import run
from tests.integration.tokens import TOKENS, outer_address, write_tokens
from tests.waiting import wait_until

SAMPLE = REPOSITORY / "samples" / "two_hosts.csv"
BASE = REPOSITORY / "deploy" / "knative" / "base"


@pytest.fixture
def tokens(tmp_path):
    return write_tokens(tmp_path / "tokens")


def ask(up, command, *arguments, token="", **environment):
    """Run a subcommand with a token in the environment, or with none."""
    url = up.urls["upload" if command in ("upload", "status") else "query"]
    return run(command, *arguments, "--url", url, GPU_TELEMETRY_TOKEN=token, **environment)


def test_with_tokens_everything_works_for_those_who_have_one(start, tokens, tmp_path):
    up = start(f"--auth-tokens={tokens}").wait_ready()
    assert f"with a token of {tokens} in GPU_TELEMETRY_TOKEN" in up.output
    # The sample was uploaded with one, and the queue source told collect of it with one.
    wait_until(lambda: "5580 synthetic records" in up.output)
    wait_until(lambda: "active" in ask(up, "gpus", token=TOKENS["read"]).stdout)
    assert "stored" in ask(up, "upload", SAMPLE, "--wait", token=TOKENS["ingest"]).stdout
    done = ask(up, "gpus")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "GPU_TELEMETRY_TOKEN" in done.stderr
    done = ask(up, "upload", SAMPLE, token=TOKENS["read"])
    assert done.returncode == 1
    assert "role ingest" in done.stderr
    (tmp_path / "own").write_text(TOKENS["read"] + "\n")
    for arguments in (("--token", TOKENS["read"]), ("--token-file", tmp_path / "own")):
        assert ask(up, "gpus", *arguments, token="what-was-typed-comes-first").returncode == 0
    assert ask(up, "gpus", GPU_TELEMETRY_TOKEN_FILE=str(tmp_path / "own")).returncode == 0
    logs = "".join(file.read_text() for file in (up.data_dir / "logs").glob("*.log"))
    assert '"token": "ingest:1"' in logs
    assert not any(token in logs + up.output for token in TOKENS.values())


def test_cron_brings_a_token(start, tokens, tmp_path):
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for file in BASE.glob("*.yaml"):
        if file.name != "queue-source.yaml":
            text = file.read_text().replace('schedule: "* * * * *"', 'schedule: "* * * * * *"')
            (manifests / file.name).write_text(text)
    up = start("--no-sample", f"--auth-tokens={tokens}", f"--manifests={manifests}").wait_ready()
    assert "stored" in ask(up, "upload", SAMPLE, "--wait", token=TOKENS["ingest"]).stdout
    assert "tick lost" not in up.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host=0.0.0.0",), "--host 0.0.0.0 is open to others"),
        (("--host=::",), "--insecure"),
        (("--auth-tokens=/no/such/file",), "/no/such/file cannot be read"),
    ],
)
def test_what_would_serve_everybody_is_refused(tmp_path, arguments, said):
    done = run("up", "--data-dir", tmp_path / "data", "--no-sample", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data" / "etcd").exists()


def test_tokens_without_one_for_the_sources_are_refused(tmp_path):
    tokens = write_tokens(tmp_path / "tokens", read=TOKENS["read"])
    done = run("up", "--data-dir", tmp_path / "data", AUTH_TOKENS=str(tokens))
    assert done.returncode == 2
    assert "no token with the role ingest or admin" in done.stderr


def test_insecure_serves_others_too(start):
    outer = outer_address()
    if outer is None:
        pytest.skip("this machine has no address but loopback")
    up = start("--no-sample", "--host=0.0.0.0", INSECURE="true").wait_ready()
    url = up.urls["query"].replace("127.0.0.1", outer)
    assert run("gpus", "--url", url).returncode == 0
    # The admin port stays this machine's.
    assert up.get("admin", "/health")["ready"] is True
    done = run("gpus", "--url", up.urls["admin"].replace("127.0.0.1", outer))
    assert "nothing answers" in done.stderr


def test_the_manifests_of_a_cluster_do_not_open_this_machine(start):
    up = start("--no-sample").wait_ready()
    answer = up._http.request("GET", f"{up.urls['query']}/api/v1/gpus", headers={"Host": "evil.example"})
    assert answer.status == 403
