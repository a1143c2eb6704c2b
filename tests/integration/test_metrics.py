"""/metrics of the running functions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families


def scrape(function):
    status, body, headers = function.call("GET", "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {f.name: f for f in text_string_to_metric_families(body.decode())}


@pytest.mark.parametrize("name", ["upload", "collect", "query"])
def test_each_function_tells_of_its_process(pipeline, name):
    found = scrape(getattr(pipeline, name))
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6
    assert found["python_info"].samples[0].value == 1


def test_what_was_uploaded_is_scraped(pipeline):
    now = datetime.now(UTC).isoformat()
    rows = f"timestamp,uuid,gpu_id,hostname,gpu_utilization\n{now},GPU-m,0,node-m,85\n2020-01-01,GPU-old,1,node-m,7\n"
    assert pipeline.upload.upload(rows)[0] == 200
    assert pipeline.collect.call("POST", "/collect")[0] == 200
    found = scrape(pipeline.query)
    samples = {s.labels["UUID"]: s for s in found["DCGM_FI_DEV_GPU_UTIL"].samples}
    assert set(samples) == {"GPU-m"}
    assert samples["GPU-m"].value == 85
    assert samples["GPU-m"].labels["Hostname"] == "node-m"
    seen = {s.labels["UUID"] for s in found["gpu_telemetry_gpu_last_seen_timestamp_seconds"].samples}
    assert seen == {"GPU-m", "GPU-old"}
