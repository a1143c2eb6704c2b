"""What the runtime tells Prometheus: every service's instances, requests and decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

#: Of the answer: Prometheus' text format.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Key of a service's description, name of the metric, what it says.
_GAUGES = (
    ("ready", "instances_ready", "instances that requests are routed to"),
    ("desired", "instances_desired", "instances that there should be"),
    ("in_flight", "requests_in_flight", "requests that instances work on"),
    ("queued", "requests_queued", "requests that wait for an instance"),
    ("concurrency", "concurrency", "average requests in flight and waiting, in the last second"),
    ("panic", "autoscaler_panic", "1 while the autoscaler panics: it scales up only"),
)
_COUNTERS = (
    ("cold_starts", "cold_starts", "times that a request had to wait for a first instance"),
    ("restarts", "instance_restarts", "times that an instance was started again"),
    ("requests_total", "requests", "requests that arrived"),
    ("rows_total", "rows", "rows in answered requests"),
)

Described = Mapping[str, Any]


class _Collector:
    def __init__(self, services: Sequence[Described], processes: Sequence[Described]) -> None:
        self._services, self._processes = services, processes

    def collect(self) -> Iterator[Metric]:
        for key, name, text in _GAUGES:
            gauge = GaugeMetricFamily(f"gpu_telemetry_runtime_{name}", text, labels=["service"])
            for service in self._services:
                gauge.add_metric([service["name"]], float(service[key]))
            yield gauge
        for key, name, text in _COUNTERS:
            counter = CounterMetricFamily(f"gpu_telemetry_runtime_{name}", text, labels=["service"])
            for service in self._services:
                counter.add_metric([service["name"]], service[key])
            yield counter
        memory = GaugeMetricFamily(
            "gpu_telemetry_runtime_instance_memory_bytes",
            "memory of an instance",
            labels=["service", "instance"],
        )
        for service in self._services:
            for instance in service["instances"]:
                memory.add_metric([service["name"], instance["name"]], instance["memory_bytes"])
        yield memory
        up = GaugeMetricFamily(
            "gpu_telemetry_runtime_process_up", "1 where etcd or a source runs", labels=["process"]
        )
        for process in self._processes:
            up.add_metric([process["name"]], float(process["ready"]))
        yield up


def render(services: Sequence[Described], processes: Sequence[Described]) -> bytes:
    """Write what the admin port describes, and the runtime's own process."""
    registry = CollectorRegistry()
    registry.register(_Collector(services, processes))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
