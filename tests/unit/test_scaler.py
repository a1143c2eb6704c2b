"""From what is asked to how many instances there shall be; the time is the test's own."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from local_runtime.activator.throttle import Limits, Throttle
from local_runtime.bounds import Phase
from local_runtime.demand import Demand
from local_runtime.journal import MOST_EVENTS, Journal
from local_runtime.manifests import ClusterSettings, Service
from local_runtime.metrics import render
from local_runtime.scaler import Scaler

BEGIN_S = 1000.0


class Asked:
    """A throttle with a clock of the test's own, and so many requests under way as the test says."""

    def __init__(self):
        self.now_s = BEGIN_S
        self.throttle = Throttle(
            Limits(container_concurrency=0, max_scale=0), on_arrival=lambda: None, clock=lambda: self.now_s
        )
        self._leases = []

    def ask(self, count):
        """Have so many requests under way from now on."""
        while len(self._leases) > count:
            self._leases.pop().release()
        while len(self._leases) < count:
            self._leases.append(asyncio.run(self.throttle.acquire()))

    def arrive(self, count, rows=0):
        """Have requests come and be answered at once."""
        under_way = len(self._leases)
        self.ask(under_way + count)
        self.ask(under_way)
        self.throttle.add_rows(rows)


@pytest.fixture
def asked():
    asked = Asked()
    asked.throttle.open("a", ("127.0.0.1", 1))
    return asked


def scaler(asked, cluster=ClusterSettings(scale_to_zero_grace_period_s=6), **annotations):  # noqa: B008
    given = {f"autoscaling.knative.dev/{name.replace('_', '-')}": str(v) for name, v in annotations.items()}
    manifest = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "asked"},
        "spec": {"template": {
            "metadata": {"annotations": {"autoscaling.knative.dev/window": "6s", **given}},
            "spec": {"containers": [{"image": "asked", "command": ["asked"]}]},
        }},
    }  # fmt: skip
    service = Service.model_validate(manifest, context=cluster)
    return Scaler(service, asked.throttle, cluster, BEGIN_S)


def live(asked, scaler, seconds, ready=None):
    """Let seconds pass, deciding in each; instances are ready at once unless it is said how many are."""
    for _ in range(seconds):
        asked.now_s += 1.0
        count = scaler.scale.desired if ready is None else ready
        scaler.demand.tick(asked.now_s, is_watched=count > 0)
        scaler.decide(asked.now_s, count)
    return scaler.scale.desired


def test_what_was_asked_is_told_by_the_second_however_late_it_is_read(asked):
    demand = Demand(asked.throttle, "concurrency", stable_s=60, panic_s=6)
    demand.tick(asked.now_s, is_watched=True)
    asked.arrive(3, rows=1000)
    asked.now_s += 1.5
    demand.tick(asked.now_s, is_watched=True)
    assert (demand.requests_per_s, demand.requests) == (2.0, 3)
    assert (demand.rows_per_s, demand.rows) == (pytest.approx(1000 / 1.5), 1000)
    asked.now_s += 1
    demand.tick(asked.now_s, is_watched=True)
    assert (demand.requests_per_s, demand.rows_per_s, demand.requests, demand.rows) == (0, 0, 3, 1000)


def test_seconds_that_a_busy_loop_missed_count_too(asked):
    demand = Demand(asked.throttle, "concurrency", stable_s=60, panic_s=6)
    demand.tick(asked.now_s, is_watched=True)
    asked.ask(8)
    asked.now_s += 4
    demand.tick(asked.now_s, is_watched=True)
    # One second of nothing, four of eight requests.
    assert demand.averages(asked.now_s)[0] == pytest.approx(32 / 5)


def test_nobody_reports_of_nothing(asked):
    demand = Demand(asked.throttle, "concurrency", stable_s=60, panic_s=6)
    for _ in range(5):
        asked.now_s += 1
        demand.tick(asked.now_s, is_watched=False)
    assert demand.averages(asked.now_s) is None
    demand.note_arrival(asked.now_s)
    # Whole, not as one second of a quiet minute.
    assert demand.averages(asked.now_s) == (1.0, 1.0)
    assert demand.averages(asked.now_s + 61) is None


def test_requests_per_second_count_whether_they_took_long_or_not(asked):
    by_rate = scaler(asked, metric="rps", target=10, target_utilization_percentage=100)
    live(asked, by_rate, 1)
    for _ in range(10):
        asked.arrive(45)
        live(asked, by_rate, 1)
    assert by_rate.scale.desired == 5


def test_without_a_request_the_last_instance_goes_after_the_window_and_one_comes_with_the_next(asked):
    idle = scaler(asked)
    assert idle.scale.desired == 1
    assert live(asked, idle, 6) == 1
    assert live(asked, idle, 4) == 0
    assert live(asked, idle, 60) == 0
    idle.demand.note_arrival(asked.now_s)
    assert idle.decide(asked.now_s, 0).desired == 1


def test_min_scale_holds_and_is_started_with(asked):
    held = scaler(asked, min_scale=2, initial_scale=1)
    assert held.scale.desired == 2
    assert live(asked, held, 100) == 2


def test_an_initial_scale_of_zero_starts_nothing(asked):
    lazy = scaler(asked, ClusterSettings(allow_zero_initial_scale=True), initial_scale=0)
    assert (lazy.scale.desired, lazy.scale.phase) == (0, Phase.INACTIVE)
    assert live(asked, lazy, 20) == 0


def test_retention_keeps_the_last_instance(asked):
    kept = scaler(asked, scale_to_zero_pod_retention_period="30s")
    assert live(asked, kept, 30) == 1
    assert live(asked, kept, 12) == 0


def test_without_burst_capacity_the_grace_period_comes_on_top(asked):
    alone = scaler(asked, target_burst_capacity=0)
    assert live(asked, alone, 12) == 1
    assert live(asked, alone, 2) == 0


def test_a_burst_is_scaled_for_at_once_and_given_back_after_it(asked):
    burst = scaler(asked, target=1, target_utilization_percentage=100, max_scale=10)
    live(asked, burst, 2)
    asked.ask(30)
    live(asked, burst, 3)
    assert burst.scale.desired == 10
    assert burst.in_panic
    asked.ask(0)
    # Never down in panic, which lasts a window after the last second that was over the threshold.
    assert live(asked, burst, 6) == 10
    assert live(asked, burst, 30) == 0


def described(name, **given):
    service = {
        "name": name, "ready": 1, "desired": 2, "in_flight": 3, "queued": 4, "concurrency": 0.5, "panic": True,
        "cold_starts": 6, "restarts": 7, "requests_total": 8, "rows_total": 9,
        "instances": [{"name": f"{name}-00001-1", "memory_bytes": 1000}],
    }  # fmt: skip
    return {**service, **given}


def test_prometheus_can_read_what_it_is_told():
    text = render([described("a"), described("b", ready=0, panic=False)], [{"name": "etcd", "ready": True}])
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    told = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert told["gpu_telemetry_runtime_instances_ready", "a"] == 1
    assert told["gpu_telemetry_runtime_instances_ready", "b"] == 0
    assert told["gpu_telemetry_runtime_autoscaler_panic", "a"] == 1
    assert told["gpu_telemetry_runtime_requests_total", "a"] == 8
    assert told["gpu_telemetry_runtime_rows_total", "b"] == 9
    assert told["gpu_telemetry_runtime_instance_memory_bytes", "a", "a-00001-1"] == 1000
    assert told["gpu_telemetry_runtime_process_up", "etcd"] == 1
    assert families["gpu_telemetry_runtime_cold_starts"].type == "counter"
    assert "process_resident_memory_bytes" in families


def test_the_journal_keeps_the_newest_events():
    journal = Journal()
    for number in range(MOST_EVENTS + 5):
        journal.add("a", "scaled", "why", before=number, after=number + 1)
    events = journal.describe()
    assert len(events) == MOST_EVENTS
    assert (events[0]["from"], events[-1]["from"], events[-1]["to"]) == (5, MOST_EVENTS + 4, MOST_EVENTS + 5)
    assert events[-1]["at"].endswith("Z")
