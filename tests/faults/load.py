"""A steady load: uploads that are repeated until they are acknowledged, and questions asked meanwhile."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time

import urllib3

from tests.faults.accounting import read_gpu
from tests.faults.fleet import ROWS, Key, csv_of, keys_of, uuid_of, values_of

#: What a client is told to try again after, or gets when somebody was killed (502 of the activator).
TRY_AGAIN = frozenset({502, 503, 504})


class Load:
    """Threads that upload, each as a host of its own, from `start` to `stop`."""

    def __init__(self, url, name, *, threads=4, pause_s=0.1):
        self._url = f"{url}/api/v1/csv/upload"
        self._hosts = [f"{name}-{i}" for i in range(threads)]
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(h,), daemon=True) for h in self._hosts]
        #: (host, number) of every upload that was answered with 200 ...
        self.acknowledged = []
        #: ... how often one was not, and what was answered that no client should see.
        self.repeated = 0
        self.odd = []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc):
        self._stopping.set()

    def stop(self, timeout_s=60.0):
        """End the load: every upload that was begun is acknowledged first."""
        self._stopping.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        assert not any(t.is_alive() for t in self._threads), f"not acknowledged within {timeout_s} s"
        assert self.odd == [], self.odd[:5]

    def keys(self) -> set[Key]:
        """The key of every row that was acknowledged."""
        with self._lock:
            return {key for host, number in self.acknowledged for key in keys_of(host, number)}

    def uuids(self):
        with self._lock:
            return sorted({uuid_of(host, 0) for host, _ in self.acknowledged})

    def _run(self, host):
        http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2, read=15))
        for number in itertools.count():
            body = csv_of(host, number)
            while not self._upload(http, body):
                self.repeated += 1
                threading.Event().wait(0.1)
            with self._lock:
                self.acknowledged.append((host, number))
            if self._stopping.wait(self._pause_s):
                return

    def _upload(self, http, body):
        try:
            answer = http.request("POST", self._url, body=body, headers={"Content-Type": "text/csv"})
            if answer.status == 200:
                accepted = json.loads(answer.data)["data"]["accepted"]
                if accepted != ROWS:
                    self.odd.append(f"{accepted} rows of {ROWS} were accepted")
                return True
        except (urllib3.exceptions.HTTPError, ValueError):
            return False
        if answer.status not in TRY_AGAIN:
            self.odd.append(f"{answer.status}: {answer.data[:300]!r}")
        return False


class Asker:
    """Asks for the records of one GPU after another; what was answered once must be in every later answer."""

    def __init__(self, url, load, chance: random.Random, *, pause_s=0.3):
        self._url = url
        self._load = load
        self._chance = random.Random(chance.random())
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._seen = {}
        self.answers = 0
        self.wrong = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._stopping.set()

    def stop(self):
        self._stopping.set()
        self._thread.join(60)
        assert self.wrong == [], self.wrong[:5]

    def _run(self):
        http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2, read=15))
        while not self._stopping.wait(self._pause_s):
            uuids = self._load.uuids()
            if uuids:
                self._ask(http, self._chance.choice(uuids))

    def _ask(self, http, uuid):
        try:
            found = read_gpu(http, self._url, uuid) or []
        except (urllib3.exceptions.HTTPError, ValueError):
            # It failed, and said so.
            return
        self.answers += 1
        times = [ms for ms, _ in found]
        if len(set(times)) < len(times):
            self.wrong.append(f"{uuid}: a record twice in one answer")
        if any(values != values_of(uuid, ms) for ms, values in found):
            self.wrong.append(f"{uuid}: other values than were sent")
        gone = self._seen.get(uuid, set()) - set(times)
        if gone:
            self.wrong.append(f"{uuid}: {len(gone)} records were there before and are not now")
        self._seen[uuid] = set(times)
