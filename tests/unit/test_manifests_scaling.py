"""How a Service scales, from its annotations and the cluster's settings."""

from __future__ import annotations

import pytest

from local_runtime.manifests import ClusterSettings, Scaling, read_manifests
from local_runtime.manifests.container import parse_quantity
from local_runtime.manifests.scaling import parse_duration_s
from shared.errors import BadConfig
from tests.manifests import (
    ANNOTATIONS,
    CLUSTER,
    CONTAINER,
    SERVICE,
    annotated,
    changed,
    folder,
    parsed,
    refused,
)


def test_knatives_defaults():
    (service,) = parsed(SERVICE)
    assert service.scaling == Scaling(
        metric="concurrency",
        target=None,
        target_utilization_percent=70,
        target_burst_capacity=211,
        window_s=60,
        panic_window_percent=10,
        panic_threshold_percent=200,
        min_scale=0,
        max_scale=0,
        initial_scale=1,
        activation_scale=0,
        scale_down_delay_s=0,
        retention_s=0,
    )


@pytest.mark.parametrize(
    ("annotation", "text", "field", "value"),
    [
        ("class", "kpa.autoscaling.knative.dev", "autoscaler_class", "kpa.autoscaling.knative.dev"),
        ("metric", "rps", "metric", "rps"),
        ("target", "0.01", "target", 0.01),
        ("target-utilization-percentage", "100", "target_utilization_percent", 100),
        ("targetUtilizationPercentage", "75.5", "target_utilization_percent", 75.5),
        ("target-burst-capacity", "0", "target_burst_capacity", 0),
        ("target-burst-capacity", "-1", "target_burst_capacity", -1),
        ("window", "1m30s", "window_s", 90),
        ("window", "1h", "window_s", 3600),
        ("panic-window-percentage", "1", "panic_window_percent", 1),
        ("panic-threshold-percentage", "110", "panic_threshold_percent", 110),
        ("min-scale", "2", "min_scale", 2),
        ("minScale", "2", "min_scale", 2),
        ("max-scale", "10", "max_scale", 10),
        ("initial-scale", "3", "initial_scale", 3),
        ("activation-scale", "2", "activation_scale", 2),
        ("scale-down-delay", "15m", "scale_down_delay_s", 900),
        ("scale-to-zero-pod-retention-period", "1m5.5s", "retention_s", 65.5),
    ],
)
def test_an_annotation(annotation, text, field, value):
    (service,) = parsed(changed(SERVICE, ANNOTATIONS, {f"autoscaling.knative.dev/{annotation}": text}))
    assert getattr(service.scaling, field) == value


def test_bounds_may_be_equal():
    (service,) = parsed(annotated(min_scale="2", max_scale="2", activation_scale="2"))
    assert (service.scaling.min_scale, service.scaling.max_scale, service.scaling.activation_scale) == (
        2,
        2,
        2,
    )


def test_of_two_spellings_the_newer_one_counts():
    both = {"autoscaling.knative.dev/minScale": "5", "autoscaling.knative.dev/min-scale": "2"}
    (service,) = parsed(changed(SERVICE, ANNOTATIONS, both))
    assert service.scaling.min_scale == 2


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({"window": "5s"}, "window: expected 6s to 1h, not '5s'"),
        ({"window": "1h1s"}, "window: expected 6s to 1h, not '1h1s'"),
        ({"window": "6500ms"}, "window: expected whole seconds, not '6500ms'"),
        ({"window": "60"}, "window: expected a duration with its unit"),
        ({"window": "1 m"}, "window: expected a duration with its unit"),
        ({"window": 60}, "window: expected a string; in YAML quote it, not 60"),
        ({"min-scale": 1}, "min-scale: expected a string; in YAML quote it, not 1"),
        ({"min-scale": "-1"}, "min-scale: expected at least 0, not '-1'"),
        ({"min-scale": "1.5"}, "min-scale: expected a whole number"),
        ({"min-scale": "1_0"}, "min-scale: expected a whole number"),
        ({"max-scale": "2147483648"}, "max-scale: expected a whole number"),
        ({"min-scale": "3", "max-scale": "2"}, "max-scale: expected at least min-scale, 3, not '2'"),
        ({"activation-scale": "1"}, "activation-scale: expected at least 2, not '1'"),
        ({"activation-scale": "4", "max-scale": "3"}, "activation-scale: expected at most max-scale, 3"),
        ({"activation-scale": "2", "min-scale": "3"}, "activation-scale: expected at least min-scale, 3"),
        ({"initial-scale": "0"}, "initial-scale: expected at least 1, or allow-zero-initial-scale"),
        ({"panic-threshold-percentage": "109"}, "expected 110 to 1000, not '109'"),
        ({"panic-threshold-percentage": "1001"}, "expected 110 to 1000, not '1001'"),
        ({"panic-window-percentage": "0.5"}, "expected 1 to 100, not '0.5'"),
        ({"target": "0.009"}, "target: expected at least 0.01, not '0.009'"),
        ({"target": "nan"}, "target: expected a number"),
        ({"target": "1e400"}, "target: expected a number"),
        ({"target-utilization-percentage": "0.5"}, "expected 1 to 100, not '0.5'"),
        ({"target-burst-capacity": "-2"}, "expected 0 or more, or -1 for any number, not '-2'"),
        ({"scale-down-delay": "61m"}, "scale-down-delay: expected 0s to 1h, not '61m'"),
        ({"scale-down-delay": "1.5s"}, "scale-down-delay: expected whole seconds"),
        ({"class": "hpa.autoscaling.knative.dev"}, "class: expected kpa.autoscaling.knative.dev"),
        ({"metric": "cpu"}, "metric: expected concurrency or rps, not 'cpu'"),
        ({"max-scal": "2"}, "max-scal: is not an annotation of the autoscaler"),
        ({"max-scale-up-rate": "2"}, "max-scale-up-rate: is not an annotation of the autoscaler"),
    ],
)
def test_an_annotation_that_the_cluster_would_refuse(annotations, said):
    message = refused(annotated(**{key.replace("-", "_"): value for key, value in annotations.items()}))
    assert message.startswith(f"x.yaml: {ANNOTATIONS}.autoscaling.knative.dev/")
    assert said in message


def test_the_cluster_says_what_a_service_does_not():
    cluster = CLUSTER | {
        "data": {
            "_example": "anything: goes",
            "stable-window": "30s",
            "max-scale": "4",
            "container-concurrency-target-percentage": "0.8",
            "allow-zero-initial-scale": "true",
            "initial-scale": "0",
        }
    }
    (service, _) = parsed(annotated(max_scale="2"), cluster)
    scaling = service.scaling
    assert (scaling.window_s, scaling.max_scale, scaling.initial_scale) == (30, 2, 0)
    assert scaling.target_utilization_percent == 80


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("max-scale-up-rate", "1.5", "max_scale_up_rate", 1.5),
        ("max-scale-down-rate", "3", "max_scale_down_rate", 3),
        ("scale-to-zero-grace-period", "500ms", "scale_to_zero_grace_period_s", 0.5),
        ("enable-scale-to-zero", "false", "enable_scale_to_zero", False),
        ("container-concurrency-target-percentage", "75", "target_utilization_percent", 75),
        ("container-concurrency-target-default", "50", "concurrency_target_default", 50),
        ("container-concurrency-target-percentage", "1", "target_utilization_percent", 100),
        ("max-scale", "2147483647", "max_scale", 2**31 - 1),
        ("requests-per-second-target-default", "10", "rps_target_default", 10),
        ("scale-to-zero-pod-retention-period", "5s", "retention_s", 5),
    ],
)
def test_a_setting_of_the_cluster(tmp_path, key, text, field, value):
    manifests = read_manifests(folder(tmp_path, SERVICE, CLUSTER | {"data": {key: text}}))
    assert manifests.cluster == ClusterSettings(**{field: value})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"stable-windw": "60s"}, "data.stable-windw: is not a setting (did you mean stable-window?)"),
        ({"stable-window": "5s"}, "data.stable-window: expected 6s to 1h, not '5s'"),
        ({"max-scale-up-rate": "1"}, "data.max-scale-up-rate: expected more than 1, not '1'"),
        ({"scale-to-zero-grace-period": "0s"}, "expected more than 0s, not '0s'"),
        ({"enable-scale-to-zero": "maybe"}, 'expected "true" or "false", not \'maybe\''),
        (
            {"initial-scale": "0"},
            'data.initial-scale: expected at least 1, or allow-zero-initial-scale: "true"',
        ),
        ({"max-scale-limit": "5"}, "data.max-scale: expected 1 to max-scale-limit, 5, not '0'"),
        ({"pod-autoscaler-class": "hpa.autoscaling.knative.dev"}, "expected kpa.autoscaling.knative.dev"),
    ],
)
def test_a_setting_that_the_cluster_would_refuse(data, said):
    assert said in refused(CLUSTER | {"data": data})


def test_a_limit_of_the_cluster_holds_for_services():
    least = CLUSTER | {"data": {"max-scale-limit": "1", "max-scale": "1"}}
    assert parsed(least, SERVICE)[1].scaling.max_scale == 1
    cluster = CLUSTER | {"data": {"max-scale-limit": "5", "max-scale": "5"}}
    assert "expected 1 to max-scale-limit, 5, not '6'" in refused(cluster, annotated(max_scale="6"))


def test_settings_of_the_cluster_stand_once(tmp_path):
    with pytest.raises(BadConfig, match="two of kind ConfigMap named 'config-autoscaler'"):
        read_manifests(
            folder(tmp_path, SERVICE, CLUSTER, changed(CLUSTER, "metadata", {"name": "config-autoscaler"}))
        )


def test_settings_of_the_cluster_elsewhere_would_not_be_read():
    message = refused(changed(CLUSTER, "metadata.namespace", "gpu"))
    assert "metadata.namespace: expected knative-serving" in message


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        ({}, (300, None, None)),
        ({"timeoutSeconds": 0}, (300, None, None)),
        ({"timeoutSeconds": 60}, (60, None, None)),
        # What is often forgotten: Knative's default of 300 s for the begin of an answer.
        ({"timeoutSeconds": 600}, (600, 300, None)),
        ({"timeoutSeconds": 600, "responseStartTimeoutSeconds": 600}, (600, 600, None)),
        ({"timeoutSeconds": 600, "responseStartTimeoutSeconds": 0}, (600, None, None)),
        ({"timeoutSeconds": 60, "idleTimeoutSeconds": 20}, (60, None, 20)),
    ],
)
def test_timeouts(timeouts, expected):
    document = SERVICE
    for key, value in timeouts.items():
        document = changed(document, f"spec.template.spec.{key}", value)
    (service,) = parsed(document)
    spec = service.spec.template.spec
    assert (spec.timeout_s, spec.response_start_timeout_s, spec.idle_timeout_s) == expected


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ({"httpGet": {"path": "/h"}}, (0, 0, 0, 1)),
        ({"tcpSocket": {}, "periodSeconds": 5}, (5, 1, 3, 1)),
        ({"httpGet": {}, "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 9}, (5, 2, 9, 1)),
        ({}, (0, 0, 0, 1)),
    ],
)
def test_a_readiness_probe_has_knatives_defaults(probe, expected):
    (service,) = parsed(changed(SERVICE, f"{CONTAINER}.readinessProbe", probe))
    found = service.container.readiness_probe
    assert (found.period_s, found.timeout_s, found.failure_threshold, found.success_threshold) == expected


def test_a_liveness_probe_has_the_defaults_of_kubernetes():
    (service,) = parsed(
        changed(
            SERVICE, f"{CONTAINER}.livenessProbe", {"httpGet": {"path": "/h", "port": 8080, "scheme": "HTTP"}}
        )
    )
    probe = service.container.liveness_probe
    assert (probe.period_s, probe.timeout_s, probe.failure_threshold, probe.success_threshold) == (
        10,
        1,
        3,
        1,
    )
    assert (probe.http_get.path, probe.http_get.scheme) == ("/h", "HTTP")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1h2m3.5s", 3723.5), ("100ms", 0.1), ("1us", 1e-6), (".5s", 0.5), ("-1s", -1)],
)
def test_a_duration(text, seconds):
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1s ", "1d", "1S", "\u0663s", "1e3s", "--1s"])
def test_no_duration(text):
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (5, 5),
        ("128974848", 128974848),
        ("129e6", 129_000_000),
        ("129M", 129_000_000),
        ("123Mi", 128974848),
        ("1.5Gi", 1610612736),
        ("250m", 0.25),
        ("1k", 1000),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1E3", 1000),
    ],
)
def test_an_amount(text, amount):
    assert parse_quantity(text) == pytest.approx(amount)


@pytest.mark.parametrize("text", ["", "Mi", "1 Gi", "1gi", "1KB", "1K i", "nan", "1e", "\u0661Gi"])
def test_no_amount(text):
    with pytest.raises(ValueError, match="expected an amount"):
        parse_quantity(text)
