"""An `up` that runs the function in the folder `hello`, and those who ask it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import urllib3

from local_runtime.plan import REPOSITORY
from tests.waiting import wait_until

MANIFESTS = REPOSITORY / "tests" / "e2e" / "hello"
#: The shortest grace period there is: the last instance goes when the window allows it.
SOON_ZERO = "--set=config-autoscaler.scale-to-zero-grace-period=6s"


class Hello:
    """An `up` that runs the function beside this file, and nothing of the pipeline but etcd."""

    def __init__(self, start, folder, *arguments, manifests=MANIFESTS, **environment):
        self.folder = folder
        self.up = start(
            f"--manifests={manifests}",
            "--no-sample",
            "--quiet-period=0.2s",
            SOON_ZERO,
            *arguments,
            HELLO_FOLDER=str(folder),
            **environment,
        )
        self.up.wait_ready()
        self.url = self.service()["url"]
        self.http = urllib3.PoolManager(retries=False, maxsize=100, block=False)

    def service(self):
        return self.up.services()["hello"]

    def instances(self, *states):
        return self.up.instances("hello", *states)

    def get(self, path="/", timeout_s=60):
        return self.http.request("GET", self.url + path, timeout=timeout_s)

    def events(self, action):
        return [event for event in self.up.get("admin", "/events")["events"] if event["action"] == action]

    def files(self):
        """How many files and connections the runtime has open."""
        return psutil.Process(self.up.process.pid).num_fds()

    def memory_bytes(self):
        """What the runtime itself takes of memory."""
        return psutil.Process(self.up.process.pid).memory_info().rss

    def wait_for_zero(self):
        wait_until(lambda: self.service()["desired"] == 0 and not self.instances(), 40)


class Callers:
    """Threads that ask again and again; every answer is counted."""

    def __init__(self, hello, count, path):
        self.statuses = Counter()
        self.instances = set()
        self._hello, self._path = hello, path
        self._ending = threading.Event()
        self._pool = ThreadPoolExecutor(count)
        self._asking = [self._pool.submit(self._ask) for _ in range(count)]

    def _ask(self):
        while not self._ending.is_set():
            answer = self._hello.get(self._path)
            self.statuses[answer.status] += 1
            self.instances.add(json.loads(answer.data)["HOSTNAME"])

    def end(self):
        self._ending.set()
        for asking in self._asking:
            asking.result(90)
        self._pool.shutdown()
