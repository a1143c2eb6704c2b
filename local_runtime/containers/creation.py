"""From what is to be started to what the engine is asked to create; pure.

Containers share the machine's network. etcd and the activator listen on loopback, functions tell this machine
from others by loopback addresses, and a port means the same inside and outside: so an instance gets the
addresses that a process gets. It takes an engine on this machine, on Linux.

All else is closed: the root file system is read-only, with memory for /tmp; there are no capabilities and no
new privileges; of the environment only what concerns the program enters, and no file but the tokens.
"""

from __future__ import annotations

import secrets
import signal
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from docker.types import LogConfig, Mount

from local_runtime.containers import tokens
from local_runtime.containers.engine import Engine
from local_runtime.instance import ChildSpec

#: Where the file of tokens is found in a container.
TOKENS_PATH = PurePosixPath("/run/secrets/gpu-telemetry") / tokens.NAME
#: Names the program that a container runs.
INSTANCE_LABEL = "gpu-telemetry.instance"
#: An engine says this and the signal's number of a program that a signal ended.
_SIGNALLED = 128
_TMPFS = {"/tmp": "size=64m,mode=1777"}  # noqa: S108


def build_creation(spec: ChildSpec, engine: Engine) -> dict[str, Any]:
    """Build what `create_container` is given."""
    program, *arguments = spec.command
    environment = select_environment(spec)
    name = environment.get("HOSTNAME", spec.name)
    mounts = []
    if engine.tokens_folder is not None and environment.get("AUTH_TOKENS"):
        environment["AUTH_TOKENS"] = str(TOKENS_PATH)
        target, source = str(TOKENS_PATH.parent), str(engine.tokens_folder)
        mounts.append(Mount(target, source, type="bind", read_only=True))
    return {
        "image": engine.image,
        "name": f"gpu-telemetry-{name}-{secrets.token_hex(4)}",
        # As in Kubernetes: the command replaces whatever the image starts with.
        "entrypoint": [find_program(program)],
        "command": arguments,
        "environment": environment,
        "labels": {**engine.labels, INSTANCE_LABEL: name},
        # Whoever runs docker may have told it of proxies: that is not the program's business.
        "use_config_proxy": False,
        "host_config": engine.api.create_host_config(
            network_mode="host",
            # A first process would not get the SIGTERM that comes before it has a handler for it.
            init=True,
            read_only=True,
            tmpfs=_TMPFS,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=spec.memory_limit_bytes,
            # No swap beyond it.
            memswap_limit=spec.memory_limit_bytes,
            mounts=mounts,
            # The output is taken as it comes: the engine need not keep it as well.
            log_config=LogConfig(type="none"),
        ),
    }


def select_environment(spec: ChildSpec) -> dict[str, str]:
    """Select the variables that concern the program: this machine's PATH and HOME mean nothing inside."""
    return {name: value for name, value in spec.environment.items() if name in spec.own_variables}


def find_program(program: str) -> str:
    """Name a program as the image knows it: what stands beside this Python is on the image's PATH."""
    path = Path(program)
    return path.name if path.parent == Path(sys.executable).parent else program


def parse_exit_status(status: int) -> int:
    """Turn a container's exit status into what subprocess would return: negative for a signal."""
    number = status - _SIGNALLED
    return -number if number in signal.valid_signals() else status
