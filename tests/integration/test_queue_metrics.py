"""What the queue source tells Prometheus, a real process beside a real etcd."""

from __future__ import annotations

import sys

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from functions.collect.metrics import Dealings, PipelineMetrics
from local_runtime.embedded_etcd import running_etcd
from shared.etcd import Etcd
from shared.keys import Keys
from shared.queue import Lease, Queue
from tests.functions import free_port, running
from tests.integration.records import publish
from tests.waiting import wait_until

PROGRAM = [sys.executable, "-m", "functions.collect.queue_source"]


def read(port):
    answer = urllib3.PoolManager(retries=False).request("GET", f"http://127.0.0.1:{port}/metrics")
    assert answer.status == 200
    families = text_string_to_metric_families(answer.data.decode())
    return {(s.name, *s.labels.values()): s.value for f in families for s in f.samples}


@pytest.fixture
def scrape(etcd_endpoint, prefix, tmp_path):
    """The metrics of a queue source whose collect never answers."""
    port = free_port()
    with running(
        "queue-source",
        tmp_path,
        etcd=etcd_endpoint,
        prefix=prefix,
        program=PROGRAM,
        port=port,
        METRICS_PORT=str(port),
        K_SINK=f"http://127.0.0.1:{free_port()}",
    ):
        yield lambda: read(port)


def test_the_queue_is_described(scrape, queue, etcd):
    before = scrape()
    assert before["gpu_telemetry_queue_depth",] == 0
    assert before["gpu_telemetry_queue_oldest_message_age_seconds",] == 0
    assert before["gpu_telemetry_etcd_up",] == 1
    publish(queue, 3)
    wait_until(lambda: scrape()["gpu_telemetry_queue_depth",] == 3)
    found = scrape()
    assert found["gpu_telemetry_queue_rows",] == 6
    assert found["gpu_telemetry_queue_bytes",] > 100
    assert found["gpu_telemetry_queue_oldest_message_age_seconds",] > 1e6  # they say that they are of 2023
    assert found["gpu_telemetry_etcd_database_bytes",] >= found["gpu_telemetry_etcd_database_in_use_bytes",]
    assert found["gpu_telemetry_etcd_quota_bytes",] > 1e9
    assert found["process_resident_memory_bytes",] > 1e6
    lease = Lease(etcd, 5)
    claims = queue.claim(queue.list_ready(limit=1), lease)
    wait_until(lambda: scrape()["gpu_telemetry_queue_claimed",] == 1)
    queue.bury(claims[0], "not readable", 0)
    wait_until(lambda: scrape()["gpu_telemetry_dead_letters",] == 1)
    assert scrape()["gpu_telemetry_queue_depth",] == 2
    lease.give_back()


def test_events_that_collect_does_not_take_are_counted(scrape, queue):
    assert scrape()["gpu_telemetry_events_total", "failed"] == 0
    publish(queue, 1)
    wait_until(lambda: scrape()["gpu_telemetry_events_total", "failed"] > 0)
    assert scrape()["gpu_telemetry_events_total", "sent"] == 0


def test_without_etcd_no_number_is_made_up(tmp_path):
    with running_etcd(tmp_path) as endpoint:
        etcd = Etcd([endpoint], timeout_s=0.5)
        queue = Queue(etcd, Keys("/test"))
        metrics = PipelineMetrics(
            etcd, queue, lambda: 1, lambda: Dealings(in_flight=2, known=1, sent=0, failed=0)
        )
        assert "gpu_telemetry_queue_depth" in {f.name for f in metrics.collect()}
    again = PipelineMetrics(etcd, queue, lambda: 1, lambda: Dealings(in_flight=2, known=1, sent=0, failed=0))
    found = {f.name: f for f in again.collect()}
    assert found["gpu_telemetry_etcd_up"].samples[0].value == 0
    assert found["gpu_telemetry_events_in_flight"].samples[0].value == 2
    assert not {n for n in found if "queue" in n or "dead" in n or "database" in n or "quota" in n}
    etcd.close()
