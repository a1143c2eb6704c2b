"""The README's examples work as pasted, against a pipeline that has just been started for the first time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from local_runtime.plan import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
EXAMPLES = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.strip().splitlines()
]
#: Which function a subcommand asks.
ASKS = {"upload": "upload", "gpus": "query", "telemetry": "query", "status": "upload", "uploads": "upload"}
ASKS |= {"fleet": "query", "tail": "query"}
ASKS |= {"top": "admin", "trigger": "collect"}
ASKS |= {"dead": "collect", "retention": "collect", "export": "query", "import": "upload"}
DEFAULT_PORTS = {"query": 8080, "upload": 8081, "collect": 8082, "admin": 8090, "metrics": 8083}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_works(pipeline, example):
    command = example.replace(".venv/bin/gpu-telemetry", str(Path(sys.executable).parent / "gpu-telemetry"))
    for name, port in DEFAULT_PORTS.items():
        command = command.replace(f"127.0.0.1:{port}/", f"127.0.0.1:{pipeline.ports[name]}/")
    if "gpu-telemetry" in command:
        # Pasted, it asks the default ports; here they are others.
        subcommand = re.search(r"gpu-telemetry (\w+)", command)[1]
        if subcommand == "logs":
            command += f" --data-dir {pipeline.data_dir}"
        else:
            command += f" --url {pipeline.urls[ASKS[subcommand]]}"
        if subcommand == "export":
            command += f" --upload-url {pipeline.urls['upload']}"
        if subcommand == "status":
            command += f" --query-url {pipeline.urls['query']} --collect-url {pipeline.urls['collect']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=REPOSITORY,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if command.startswith("curl"):
        assert '"success":false' not in done.stdout
        assert '"errors"' not in done.stdout or '"success":true' in done.stdout


def test_there_are_examples_of_everything():
    everything = "\n".join(EXAMPLES)
    for wanted in (
        "csv/upload",
        "/gpus",
        "/telemetry",
        "/hosts",
        "/status",
        "upload --wait",
        "uploads list",
        "dead",
        "retention",
        "export",
        "import",
        "fleet",
        "format=csv",
        "/metrics",
        "/graphql",
    ):
        assert wanted in everything
