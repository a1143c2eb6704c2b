"""A large file through the whole pipeline: collect goes from none to several and back."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from benchmarks.generate import fleet_of
from tests.e2e.greeting import SOON_ZERO
from tests.integration.sockets import Socket
from tests.waiting import wait_until

ROWS = 1_000_000
FUNCTIONS = ("upload", "collect", "query")


class Seen:
    """What /services said, again and again."""

    def __init__(self, up):
        self.most = 0
        self.rows_per_s = 0.0
        self._up = up
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self):
        while not self._ending.wait(0.1):
            collect = self._up.services()["collect"]
            self.most = max(self.most, collect["ready"])
            self.rows_per_s = max(self.rows_per_s, collect["rows_per_s"])

    def end(self):
        self._ending.set()
        self._thread.join()


def test_a_large_upload_takes_collect_from_zero_to_several_and_back(start, tmp_path):
    fleet = fleet_of(ROWS)
    csv = tmp_path / "large.csv"
    fleet.write(csv)
    shape = [f"--set={name}.autoscaling.knative.dev/window=6s" for name in FUNCTIONS]
    shape += ["--set=collect.containerConcurrency=1", "--set=collect.autoscaling.knative.dev/max-scale=4"]
    # It is all stored within two seconds: the first request that waits is to ask for several.
    shape += ["--set=collect.autoscaling.knative.dev/target=0.25", "--set=collect-tick.schedule=0 0 1 1 *"]
    up = start("--no-sample", SOON_ZERO, *shape, data_dir=tmp_path / "a folder with spaces").wait_ready()
    wait_until(lambda: all(not s["instances"] for s in up.services().values()), 40)
    seen = Seen(up)
    follower = Socket(SimpleNamespace(url=up.urls["query"]))
    follower.subscribe(gpus=fleet.uuids[:1])
    told = up.json("upload", csv, "--wait")["data"]
    seen.end()
    assert (told["state"], told["accepted"], told["rejected"]) == ("stored", fleet.rows, 0)
    follower.receive_until(lambda s: len({r["timestamp"] for r in s.records}) == fleet.instants, 60)
    follower.close()
    assert seen.most >= 3
    assert seen.rows_per_s > 0
    assert up.get("query", "/api/v1/stats")["data"]["rows"] >= fleet.rows
    for uuid in (fleet.uuids[0], fleet.uuids[-1]):
        path = f"/api/v1/gpus/{uuid}/telemetry?start_time=2024-01-15T00:00:00Z&limit=10000"
        assert len(up.get("query", path)["data"]) == fleet.instants
    assert up.get("upload", "/api/v1/status")["data"]["queue"]["dead"] == 0
    happened = {event["action"] for event in up.get("admin", "/events")["events"]}
    assert happened <= {"scaled"}
    wait_until(lambda: all(s["desired"] == 0 and not s["instances"] for s in up.services().values()), 60)
    assert up.get("admin", "/health")["ready"] is True
