"""Starting a function: its settings, its logs, its client of etcd."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from shared.config import Settings, read_variable, settings
from shared.errors import BadConfig
from shared.etcd import Etcd
from shared.logs import configure_logs
from shared.tokens import TokenFile


class EtcdHolder:
    """The etcd client of this process, made on first use: gunicorn forks after the import."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._etcd: Etcd | None = None

    def __call__(self) -> Etcd:
        """Return the client."""
        with self._lock:
            if self._etcd is None:
                self._etcd = Etcd(self._config.endpoints())
            return self._etcd


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
