"""One instance that does not behave, and all the others."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.greeting import MANIFESTS, Callers
from tests.processes import members
from tests.waiting import wait_until

PROBE = """          livenessProbe:
            httpGet: {path: /}
            periodSeconds: 1
            timeoutSeconds: 1
            failureThreshold: 2
"""


def test_an_instance_that_stands_still_is_replaced_and_one_that_spins_keeps_nobody_waiting(hello, tmp_path):
    """The one is stopped by a signal and fails its liveness probe, the other is kept in an endless loop."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    text = (MANIFESTS / "hello.yaml").read_text()
    (manifests / "hello.yaml").write_text(text.replace("          env:\n", f"{PROBE}          env:\n", 1))
    pair = [f"--set=hello.autoscaling.knative.dev/{side}-scale=2" for side in ("min", "max")]
    hello = hello(*pair, manifests=manifests)
    wait_until(lambda: len(hello.instances("ready")) == 2)
    with ThreadPoolExecutor(1) as pool:
        spinning = pool.submit(hello.get, "/spin?seconds=8")
        wait_until(lambda: hello.service()["in_flight"])
        callers = Callers(hello, 1, "/?sleep=0.02")
        wait_until(lambda: callers.statuses[200] >= 20)
        callers.end()
        assert set(callers.statuses) == {200}
        assert not spinning.done()
        assert spinning.result(60).status == 200
    stopped = hello.instances("ready")[0]
    for pid in members(stopped["pid"]):
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: hello.events("killed"), 20)
    assert "liveness" in hello.events("killed")[0]["reason"]

    def is_replaced():
        now = [one for one in hello.instances("ready") if one["name"] == stopped["name"]]
        return now and now[0]["pid"] != stopped["pid"]

    wait_until(is_replaced, 20)
    assert hello.get().status == 200
    assert not members(stopped["pid"])
