"""Starting a function: its settings, its logs, its client of etcd, and what its workers do at first."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flask import has_app_context

from shared.config import Settings, read_variable, settings
from shared.errors import BadConfig, PipelineError
from shared.etcd import Etcd
from shared.logs import configure_logs
from shared.tokens import TokenFile


class EtcdHolder:
    """The etcd client of this process, made on first use: gunicorn forks after the import."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._etcd: Etcd | None = None
        # The first request finds it connected, or nearly so: the worker has yet to listen, and it to come.
        in_worker(self._connect)

    def __call__(self) -> Etcd:
        """Return the client."""
        with self._lock:
            if self._etcd is None:
                self._etcd = Etcd(self._config.endpoints())
            return self._etcd

    def _connect(self) -> None:
        with contextlib.suppress(PipelineError):  # whoever needs it finds out, and says so
            self().get("health")


def in_worker(do: Callable[[], None]) -> None:
    """Have something done by a thread of each worker as soon as it is forked; elsewhere nothing is done."""
    if has_app_context():
        begin = partial(threading.Thread, target=do, name="first", daemon=True)
        os.register_at_fork(after_in_child=lambda: begin().start())


def start(service: str) -> Settings:
    """Read the settings and set up the logs of a function; a bad setting ends the process with one line."""
    try:
        config = settings()
        if config.auth_tokens:
            TokenFile(Path(config.auth_tokens))
    except BadConfig as exc:
        sys.exit(f"gpu-telemetry {service}: {exc.message}")
    # A name of the machine says nothing where no K_SERVICE says that it is one of an instance.
    instance = read_variable("HOSTNAME") if read_variable("K_SERVICE") else ""
    configure_logs(service, config.log_level, revision=read_variable("K_REVISION"), instance=instance)
    return config
