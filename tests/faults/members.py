"""Three members of an etcd on this machine, each of which can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import urllib3

from local_runtime.embedded_etcd import is_healthy
from local_runtime.etcd_binary import build_command
from local_runtime.ports import find_free_port
from tests.waiting import wait_until


class Member:
    """One member; its data outlives its process."""

    def __init__(self, binary, folder, name):
        self.name = name
        self.endpoint = f"127.0.0.1:{find_free_port()}"
        self.peer_url = f"http://127.0.0.1:{find_free_port()}"
        self._binary = binary
        self._folder = folder / name
        self._folder.mkdir()
        self.process = None

    def start(self, members):
        alone = build_command(
            self._binary,
            data_dir=self._folder / "etcd",
            client_url=f"http://{self.endpoint}",
            peer_url=self.peer_url,
        )
        cluster = ",".join(f"{m.name}={m.peer_url}" for m in members)
        command = [a for a in alone if not a.startswith(("--name=", "--initial-cluster="))]
        # An ETCD_ENDPOINTS of our own is no flag of etcd's, but it would be taken for one.
        env = {k: v for k, v in os.environ.items() if not k.startswith("ETCD_")}
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"--name={self.name}", f"--initial-cluster={cluster}"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self, number):
        """End it with a signal, and wait until it has."""
        self.process.send_signal(number)
        self.process.wait(30)

    def is_leader(self):
        """Ask the member whether it leads; False where it does not answer."""
        with contextlib.suppress(urllib3.exceptions.HTTPError, ValueError, KeyError):
            answer = urllib3.request(
                "POST",
                f"http://{self.endpoint}/v3/maintenance/status",
                body=b"{}",
                retries=False,
                timeout=urllib3.Timeout(1),
            ).json()
            return answer["leader"] == answer["header"]["member_id"]
        return False


class Cluster:
    """All three."""

    def __init__(self, binary, folder):
        self.members = [Member(binary, folder, f"member-{i}") for i in range(3)]

    def __enter__(self):
        for member in self.members:
            member.start(self.members)
        self.wait_healthy()
        return self

    def __exit__(self, *_exc):
        for member in self.members:
            member.process.kill()
            member.process.wait()

    @property
    def endpoints(self):
        return [m.endpoint for m in self.members]

    def wait_healthy(self):
        wait_until(lambda: all(is_healthy(e) for e in self.endpoints), 30)

    def others(self, member):
        return [m for m in self.members if m is not member]

    def leader(self, among=None):
        """Wait for a member that leads, and return it."""
        return wait_until(lambda: next((m for m in among or self.members if m.is_leader()), None), 30)

    def start_again(self, member):
        member.start(self.members)
        self.wait_healthy()

    @contextlib.contextmanager
    def held_still(self, member):
        """Stop a member for the length of the block; it does not notice."""
        member.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            member.process.send_signal(signal.SIGCONT)
