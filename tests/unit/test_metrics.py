"""What Prometheus is told: names, labels, units and what is left out."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
from prometheus_client.parser import text_string_to_metric_families

from functions.query.metrics import GpuMetrics, build_labels, render_field
from shared.fields import COUNTERS, FIELDS, find_dcgm_name, find_source
from shared.http.metrics import render_own
from shared.records import TIMESTAMP, concat, with_version
from shared.store.gpus import Known
from shared.store.inventory import summarise, take_inventory

NOW_MS = 1_705_320_000_000


def known(*rows):
    """What is known of records given as dicts; `age_s` stands for their time."""
    tables = []
    for number, row in enumerate(rows):
        cells = {n: v for n, v in row.items() if n != "age_s"}
        table = pa.table({
            "timestamp": pa.array([NOW_MS - int(row.get("age_s", 0) * 1000)], TIMESTAMP),
            **{n: pa.array([v]).dictionary_encode() if isinstance(v, str) else pa.array([float(v)]) for n, v in cells.items()},
        })  # fmt: skip
        tables.append(with_version(table, received_ms=NOW_MS, upload_id="u", number=number))
    inventory = take_inventory(concat(tables))
    return Known(inventory, summarise(inventory))


def scrape(*rows, now_ms=NOW_MS):
    metrics = GpuMetrics(lambda: None, lambda: now_ms, 300, lambda: b"")
    text = b"".join(metrics._iter_gpus(known(*rows))).decode()
    return {f.name: f for f in text_string_to_metric_families(text)}


def values(family):
    return {s.labels["UUID"]: s.value for s in family.samples}


def test_names_and_labels_are_dcgm_exporters():
    found = scrape({
        "uuid": "GPU-1", "gpu_id": "0", "device": "nvidia0", "modelname": "NVIDIA H100", "hostname": "node-1",
        "driver_version": "535.129.03", "pod": "train-1", "namespace": "ml", "container": "main",
        "cluster": "default", "gpu_utilization": 85,
    })  # fmt: skip
    (sample,) = found["DCGM_FI_DEV_GPU_UTIL"].samples
    assert sample.value == 85
    assert sample.labels == {
        "gpu": "0", "UUID": "GPU-1", "device": "nvidia0", "modelName": "NVIDIA H100", "Hostname": "node-1",
        "DCGM_FI_DRIVER_VERSION": "535.129.03", "pod": "train-1", "namespace": "ml", "container": "main",
        "cluster": "default",
    }  # fmt: skip


def test_an_instance_has_its_boards_uuid_and_its_own_labels():
    found = scrape(
        {"uuid": "GPU-1:gi-7", "gpu_instance_id": "7", "gpu_instance_profile": "1g.10gb", "temperature": 40},
        {"uuid": "GPU-1:gi-8", "gpu_instance_id": "8", "temperature": 41},
        {"uuid": "GPU-2:gi-8", "temperature": 42},
    )
    labels = [s.labels for s in found["DCGM_FI_DEV_GPU_TEMP"].samples]
    assert labels == [
        {"UUID": "GPU-1", "GPU_I_ID": "7", "GPU_I_PROFILE": "1g.10gb"},
        {"UUID": "GPU-1", "GPU_I_ID": "8"},
        {"UUID": "GPU-2:gi-8"},
    ]


def test_units_are_dcgms():
    found = scrape({"uuid": "GPU-1", "energy_consumption_j": 1234.567, "pcie_tx_bytes_per_s": 5e9})
    assert values(found["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"]) == {"GPU-1": 1234567}
    assert values(found["DCGM_FI_PROF_PCIE_TX_BYTES"]) == {"GPU-1": 5e9}


def test_whoever_reads_a_metric_back_has_the_field():
    for name in FIELDS:
        metric, factor = find_dcgm_name(name)
        source = find_source(metric)
        assert (source.field.name, source.factor) == (name, factor)
    assert set(FIELDS) >= COUNTERS


def test_a_counter_says_so():
    found = scrape({"uuid": "GPU-1", "pcie_replay_count": 3, "power_draw": 4})
    assert found["DCGM_FI_DEV_PCIE_REPLAY_COUNTER"].type == "counter"
    assert found["DCGM_FI_DEV_POWER_USAGE"].type == "gauge"


def test_what_dcgm_does_not_have_is_under_our_name():
    assert values(scrape({"uuid": "GPU-1", "queue_length": 3})["gpu_telemetry_queue_length"]) == {"GPU-1": 3}


def test_a_field_never_takes_the_name_of_a_metric_of_ours():
    found = scrape({"uuid": "GPU-a", "gpu_last_seen_timestamp_seconds": 5.0, "requests_total": 7.0})
    assert values(found["gpu_telemetry_gpu_last_seen_timestamp_seconds_"]) != values(
        found["gpu_telemetry_gpu_last_seen_timestamp_seconds"]
    )
    assert "gpu_telemetry_requests_total_" in found


def test_what_is_null_has_no_sample():
    found = scrape({"uuid": "GPU-1", "power_draw": 4}, {"uuid": "GPU-2", "temperature": 5})
    assert values(found["DCGM_FI_DEV_POWER_USAGE"]) == {"GPU-1": 4}
    assert "DCGM_FI_DEV_GPU_UTIL" not in found


def test_what_went_quiet_is_left_out_but_for_when_it_was_seen():
    found = scrape(
        {"uuid": "GPU-1", "power_draw": 4, "age_s": 1},
        {"uuid": "GPU-1", "temperature": 50, "age_s": 301},
        {"uuid": "GPU-2", "power_draw": 5, "age_s": 301},
    )
    assert values(found["DCGM_FI_DEV_POWER_USAGE"]) == {"GPU-1": 4}
    assert "DCGM_FI_DEV_GPU_TEMP" not in found
    seen = values(found["gpu_telemetry_gpu_last_seen_timestamp_seconds"])
    assert seen == {"GPU-1": NOW_MS / 1000 - 1, "GPU-2": NOW_MS / 1000 - 301}


def test_what_is_kept_grows_old():
    clock = [NOW_MS]
    metrics = GpuMetrics(lambda: None, lambda: clock[0], 300, lambda: b"")
    found = known({"uuid": "GPU-1", "power_draw": 4})
    assert b"DCGM_FI_DEV_POWER_USAGE{" in b"".join(metrics._iter_gpus(found))
    clock[0] += 301_000
    assert b"DCGM_FI_DEV_POWER_USAGE{" not in b"".join(metrics._iter_gpus(found))


def test_labels_are_escaped():
    name = 'a"b\\c\nd'
    labels = build_labels(pa.table({"uuid": ["GPU-1"], "hostname": [name]}))
    text = render_field("power_draw", pa.array([1.5]), labels).decode()
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels["Hostname"] == name


def test_large_and_small_values_stay_what_they_are():
    numbers = [0.1, 1e-7, 1e22, -3.0, 123456789012345.0, 1 / 3]
    gpus = pa.table({"uuid": [f"GPU-{i}" for i in range(len(numbers))]})
    text = render_field("odd", pa.array(numbers), build_labels(gpus)).decode()
    (family,) = text_string_to_metric_families(text)
    assert [s.value for s in family.samples] == numbers


def test_requests_are_a_counter_and_a_histogram():
    counted = SimpleNamespace(
        route="/api/v1/gpus", method="GET", status=200, within=[(0.01, 2), (0.1, 3)], count=4, seconds=1.5
    )
    text = render_own("query", [counted]).decode()
    found = {f.name: f for f in text_string_to_metric_families(text)}
    labels = {"service": "query", "route": "/api/v1/gpus", "method": "GET", "status": "200"}
    (total,) = found["gpu_telemetry_requests"].samples
    assert (total.labels, total.value) == (labels, 4)
    histogram = found["gpu_telemetry_request_duration_seconds"].samples
    assert [(s.name.rpartition("_")[2], s.labels.get("le"), s.value) for s in histogram] == [
        ("bucket", "0.01", 2),
        ("bucket", "0.1", 3),
        ("bucket", "+Inf", 4),
        ("sum", None, 1.5),
        ("count", None, 4),
    ]
    assert found["process_resident_memory_bytes"].samples[0].value > 1e6
