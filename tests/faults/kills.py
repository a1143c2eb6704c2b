"""Killing parts of a running pipeline at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import urllib3

from tests.processes import members
from tests.waiting import wait_until

#: A collector that died holds its claims for no longer than this, so that little waits for them.
SETTINGS = {"VISIBILITY_TIMEOUT": "2s", "POLL_INTERVAL": "1s"}


def until_random_moment(chance: random.Random, most_s: float) -> None:
    """Let some time pass: a random moment is no condition that could be waited for."""
    threading.Event().wait(chance.uniform(0.05, most_s))


def all_ready(up):
    return up.get("admin", "/health")["ready"]


def etcd_of(up):
    """The etcd of a pipeline, once upload can tell: it may have been killed a moment ago."""

    def asked():
        with contextlib.suppress(urllib3.exceptions.HTTPError, ValueError, KeyError):
            return up.get("upload", "/api/v1/status")["data"]["etcd"]["endpoints"]

    return wait_until(asked, 30)


def kill_9(pid):
    """Kill a process, or a group where the number is negative."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_service(up, name, chance):
    """Kill a service once it is ready: all of it, what started first, or one of those that this one started.

    Tells which.
    """

    def ready():
        if name in up.services():
            return up.instances(name, "ready")
        return [process for process in [up.processes()[name]] if process["ready"]]

    group = chance.choice(wait_until(ready, 30, every_s=0.02))["pid"]
    others = [pid for pid in members(group) if pid != group]
    how = chance.choice(["all", "first", "worker"]) if others else "all"
    kill_9({"all": -group, "first": group, "worker": chance.choice(others or [0])}[how])
    return f"{name} ({how})"
