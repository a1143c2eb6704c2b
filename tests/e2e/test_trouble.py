"""One instance that does not behave, and all the others."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from local_runtime.instance import accepts
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


def test_requests_under_way_and_waiting_are_answered_when_the_runtime_ends(hello):
    """Also one whose instance only just starts: nothing ran before it."""
    at_zero = (
        "--set=config-autoscaler.allow-zero-initial-scale=true",
        "--set=hello.autoscaling.knative.dev/initial-scale=0",
    )
    hello = hello(*at_zero, "--set=hello.autoscaling.knative.dev/max-scale=1")
    assert hello.instances() == []
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(hello.get, "/?sleep=0.2") for _ in range(3)]
        wait_until(lambda: hello.service()["queued"] == 3, every_s=0.001)
        assert hello.instances("starting")
        assert hello.up.end() == 0
        assert [a.result(1).status for a in asking] == [200, 200, 200]
    assert not hello.up.left_behind()


def test_a_second_signal_waits_for_nobody(hello):
    hello = hello()
    with ThreadPoolExecutor(1) as pool:
        address = ("127.0.0.1", int(hello.url.rpartition(":")[2]))
        slow = pool.submit(hello.get, "/?sleep=20")
        wait_until(lambda: hello.service()["in_flight"])
        hello.up.process.send_signal(signal.SIGINT)
        # It takes no more connections: it has begun to end, and waits for the one request.
        wait_until(lambda: not accepts(address))
        assert hello.up.end(signal.SIGINT, 2.5) == 0
        assert slow.result(5).status == 502
    assert not hello.up.left_behind()
