"""The emulation of Knative as a whole: a function that is scaled, hung, killed, drained and replaced."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from local_runtime.plan import REPOSITORY
from tests.e2e.greeting import MANIFESTS, SOON_ZERO, Callers
from tests.waiting import wait_until


def test_from_zero_to_ten_and_back_without_a_failed_request(hello):
    hello = hello()
    hello.wait_for_zero()
    files, memory = hello.files(), hello.memory_bytes()
    reasons = [event["reason"] for event in hello.events("scaled")]
    assert "initial-scale" in reasons[0]
    callers = Callers(hello, 20, "/?sleep=0.05")
    wait_until(lambda: hello.service()["ready"] == 10, 60)
    assert hello.service()["panic"] is True
    assert hello.service()["cold_starts"] == 1
    # Fewer ask now: it scales down while requests are under way.
    few = Callers(hello, 2, "/?sleep=0.05")
    callers.end()
    wait_until(lambda: hello.service()["desired"] < 10, 40)
    wait_until(lambda: hello.service()["ready"] <= 3, 40)
    few.end()
    assert set(callers.statuses + few.statuses) == {200}
    assert len(callers.instances) == 10
    hello.wait_for_zero()
    hello.http.clear()
    wait_until(lambda: hello.files() <= files)
    assert hello.memory_bytes() < memory + 20_000_000
    ups = [(event["from"], event["to"]) for event in hello.events("scaled")]
    assert max(to for _, to in ups) == 10
    assert hello.get().status == 200
    assert hello.service()["cold_starts"] == 2


def test_a_request_under_way_is_answered_by_an_instance_that_goes(hello):
    hello = hello("--set=hello.containerConcurrency=0", "--set=hello.autoscaling.knative.dev/target=2")
    with ThreadPoolExecutor(2) as pool:
        burst = Callers(hello, 4, "/?sleep=0.1")
        wait_until(lambda: hello.service()["ready"] >= 2, 40)
        burst.end()
        # One at each of two: one instance is enough for both.
        slow = [pool.submit(hello.get, "/?sleep=13") for _ in range(2)]
        wait_until(lambda: sum(i["in_flight"] for i in hello.instances("draining")), 40)
        assert not any(asking.done() for asking in slow)
        assert {asking.result(60).status for asking in slow} == {200}
    wait_until(lambda: hello.service()["ready"] == len(hello.instances()) <= 1, 40)


def test_a_function_that_hangs_is_answered_for_and_replaced(hello):
    hello = hello("--set", "hello.timeoutSeconds=1", "--set", "hello.autoscaling.knative.dev/max-scale=1")
    answer = hello.get("/hang")
    assert (answer.status, answer.data.decode().strip()) == (504, "request timeout")
    # The instance has other threads.
    assert hello.get().status == 200


def test_beyond_the_queue_requests_are_refused(hello):
    hello = hello("--set", "hello.autoscaling.knative.dev/max-scale=1")
    with ThreadPoolExecutor(14) as pool:
        answers = [f.result(60) for f in [pool.submit(hello.get, "/?sleep=0.3") for _ in range(14)]]
    said = Counter((a.status, a.data.decode().strip() if a.status == 503 else "") for a in answers)
    assert said == {(200, ""): 11, (503, "pending request queue full"): 3}


def test_one_that_takes_too_much_memory_is_killed_and_the_rest_goes_on(hello):
    hello = hello("--set", "hello.resources.limits.memory=200Mi")
    hello.get("/leak")
    wait_until(lambda: any("OOMKilled" in event["reason"] for event in hello.events("ended")), 20)
    wait_until(lambda: hello.instances("ready"), 20)
    assert hello.get().status == 200
    assert hello.service()["restarts"] == 1


def test_a_crash_loop_backs_off_and_ends_when_the_function_is_mended(hello, tmp_path):
    hello = hello()
    (tmp_path / "broken").touch()
    os.kill(hello.instances("ready")[0]["pid"], signal.SIGKILL)
    wait_until(lambda: hello.service()["restarts"] >= 3, 40)
    assert hello.instances()[0]["state"] in {"backoff", "starting"}
    assert hello.up.get("admin", "/health")["ready"] is False
    delays = [float(e["reason"].split(" in ")[1].split()[0]) for e in hello.events("ended")]
    assert delays[:3] == sorted(delays[:3])
    assert delays[0] < delays[2]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hello.get)
        (tmp_path / "broken").unlink()
        assert waiting.result(40).status == 200
    assert hello.up.process.poll() is None


def test_a_change_of_code_replaces_the_instances_without_a_failed_request(hello, tmp_path):
    code, manifests = tmp_path / "code", tmp_path / "manifests"
    for folder in (code, manifests):
        folder.mkdir()
    function = code / "function.py"
    text = (MANIFESTS / "function.py").read_text()
    function.write_text(text)
    manifest = (MANIFESTS / "hello.yaml").read_text()
    (manifests / "hello.yaml").write_text(manifest.replace("tests/e2e/hello/function.py", str(function)))
    hello = hello("--reload", manifests=manifests)
    first = json.loads(hello.get().data)
    assert first["K_REVISION"] == "hello-00001"
    callers = Callers(hello, 2, "/?sleep=0.02")
    function.write_text(text.replace("def hello(request):", "def hello(request:"))
    wait_until(lambda: "not replaced" in hello.up.output)
    assert f"{function}, line" in hello.up.output
    function.write_text(text.replace("return {name", 'return {"said": "changed"} | {name'))
    wait_until(lambda: b"changed" in hello.get().data, 20)
    wait_until(lambda: all("00002" in instance["name"] for instance in hello.instances()), 20)
    callers.end()
    assert set(callers.statuses) == {200}
    assert {name.rpartition("-")[0] for name in callers.instances} == {"hello-00001", "hello-00002"}
    # A change that breaks it, in a way that only a start shows: the old instances go on.
    function.write_text(text + "\nraise RuntimeError('broken')\n")
    wait_until(lambda: hello.events("ended"), 20)
    assert b"changed" in hello.get().data


def test_ticks_come_every_second_as_cloud_events(hello, tmp_path):
    hello = hello("--set", "hello-tick.schedule=* * * * * *")
    events = tmp_path / "events"
    wait_until(lambda: events.exists() and len(events.read_text().splitlines()) >= 3, 20)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert {event["ce-type"] for event in told} == {"dev.knative.sources.ping"}
    assert {event["ce-source"] for event in told} == {"/apis/v1/namespaces/default/pingsources/hello-tick"}
    assert len({event["ce-id"] for event in told}) == len(told)
    assert told[0]["k-proxy-request"] == "activator"


def test_the_pipeline_scales_to_zero_and_answers_from_there(start):
    windows = [f"--set={name}.autoscaling.knative.dev/window=6s" for name in ("upload", "collect", "query")]
    up = start("--no-sample", SOON_ZERO, *windows, "--set=collect-tick.schedule=0 0 1 1 *").wait_ready()
    wait_until(lambda: all(s["desired"] == 0 and not s["instances"] for s in up.services().values()), 40)
    assert up.get("admin", "/health")["ready"] is True
    began = time.monotonic()
    sample = REPOSITORY / "samples" / "two_hosts.csv"
    assert up.json("upload", sample, "--wait")["data"]["state"] == "stored"
    assert time.monotonic() - began < 20
    assert up.json("gpus")["count"] == 16
    assert [s["cold_starts"] for s in up.services().values()] == [1, 1, 1]
