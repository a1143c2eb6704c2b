"""--set changes what the manifests say, and is checked like them."""

from __future__ import annotations

import pytest

from local_runtime.manifests import read_manifests
from shared.errors import BadConfig
from tests.manifests import ANNOTATIONS, CLUSTER, CONTAINER, PING, SERVICE, SOURCE, changed, folder

WINDOW = "upload.autoscaling.knative.dev/window"


def read(path, *overrides, documents=(SERVICE, PING, SOURCE)):
    return read_manifests(folder(path, *documents), overrides)


def test_values_are_set(tmp_path):
    manifests = read(
        tmp_path,
        f"{WINDOW}=6s",
        "upload.containerConcurrency=5",
        "upload.timeoutSeconds=100",
        "upload.responseStartTimeoutSeconds=50",
        "upload.idleTimeoutSeconds=40",
        "upload.resources.limits.memory=1Gi",
        "upload.env.A=2",
        "upload.env.B=c=d",
        "upload.env.EMPTY=",
        "tick.schedule=*/5 * * * * *",
        "tick.timezone=Europe/Berlin",
        "tick.data={}",
        "watch.env.POLL=1s",
        "config-autoscaler.scale-to-zero-grace-period=5s",
        "config-autoscaler.stable-window=8s",
    )
    (service,), (ping,), (source,) = manifests.services, manifests.ping_sources, manifests.container_sources
    spec = service.spec.template.spec
    assert service.scaling.window_s == 6
    assert (spec.container_concurrency, spec.timeout_s) == (5, 100)
    assert (spec.response_start_timeout_s, spec.idle_timeout_s) == (50, 40)
    assert service.container.memory_limit_bytes == 1024**3
    assert manifests.environment(service.container) == {"A": "2", "B": "c=d", "EMPTY": ""}
    assert (ping.spec.schedule, ping.spec.timezone, ping.spec.data) == (
        "*/5 * * * * *",
        "Europe/Berlin",
        "{}",
    )
    assert manifests.environment(source.container) == {"POLL": "1s"}
    assert manifests.cluster.scale_to_zero_grace_period_s == 5
    assert manifests.cluster.window_s == 8


def test_an_older_spelling_does_not_lose_to_what_the_file_says(tmp_path):
    document = changed(SERVICE, ANNOTATIONS, {"autoscaling.knative.dev/min-scale": "3"})
    manifests = read(tmp_path, "upload.autoscaling.knative.dev/minScale=2", documents=(document,))
    assert manifests.services[0].scaling.min_scale == 2


def test_what_turns_out_wrong_later_is_named_likewise(tmp_path):
    manifests = read(tmp_path, "tick.timezone=Europe/Berlin")
    (ping,) = manifests.ping_sources
    message = manifests.mistake(ping, ("spec", "schedule"), "expected 5 fields", ping.spec.schedule).message
    assert message == (
        "1.yaml: spec.schedule: expected 5 fields, not '* * * * *' (line 1) (after --set tick.timezone)"
    )
    message = manifests.mistake(ping, ("spec", "timezone"), "no such place", "Europe/Berlin").message
    assert message == "--set tick.timezone: no such place, not 'Europe/Berlin'"


def test_the_last_one_counts(tmp_path):
    assert read(tmp_path, f"{WINDOW}=6s", f"{WINDOW}=7s").services[0].scaling.window_s == 7


def test_a_variable_loses_its_reference(tmp_path):
    document = changed(
        SERVICE, f"{CONTAINER}.env.0", {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}
    )
    manifests = read(tmp_path, "upload.env.A=1", documents=(document,))
    assert manifests.environment(manifests.services[0].container) == {"A": "1"}


def test_data_takes_the_place_of_base64(tmp_path):
    (ping,) = read(
        tmp_path, "tick.data=a", documents=(SERVICE, changed(PING, "spec.dataBase64", "YQ=="))
    ).ping_sources
    assert (ping.spec.data, ping.spec.data_base64) == ("a", "")


def test_what_the_folder_says_of_the_cluster_stays(tmp_path):
    cluster = CLUSTER | {"data": {"max-scale-up-rate": "5"}}
    manifests = read(tmp_path, "config-autoscaler.max-scale-down-rate=3", documents=(SERVICE, cluster))
    assert (manifests.cluster.max_scale_up_rate, manifests.cluster.max_scale_down_rate) == (5, 3)


def test_an_alias_of_yaml_is_changed_in_one_place_only(tmp_path):
    (tmp_path / "a.yaml").write_text("""
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: one, annotations: &shared {a: b}}
spec:
  template:
    metadata: {annotations: *shared}
    spec: {containers: [{image: x, command: [run]}]}
""")
    (service,) = read_manifests(tmp_path, ["one.autoscaling.knative.dev/window=6s"]).services
    assert service.metadata.annotations == {"a": "b"}
    assert service.scaling.window_s == 6


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "upload",
            "--set 'upload': expected NAME.KEY=VALUE, such as upload.autoscaling.knative.dev/window=6s",
        ),
        ("upload=1", "--set 'upload': expected NAME.KEY=VALUE"),
        (".a=1", "--set '.a': expected NAME.KEY=VALUE"),
        ("uplod.timeoutSeconds=1", "there is no 'uplod' (did you mean upload?)"),
        ("upload.schedule=1", "a Service has no 'schedule' to set"),
        (
            "tick.containerConcurrency=1",
            "a PingSource has no 'containerConcurrency' to set; there are schedule, time",
        ),
        (
            "watch.timeoutSeconds=1",
            "a ContainerSource has no 'timeoutSeconds' to set; there are env.NAME, res",
        ),
        (f"{WINDOW}=5s", f"--set {WINDOW}: expected 6s to 1h, not '5s'"),
        ("upload.autoscaling.knative.dev/windw=6s", "windw: is not an annotation of the autoscaler"),
        (
            "upload.timeoutSeconds=601",
            "--set upload.timeoutSeconds: expected less than or equal to 600, not 601",
        ),
        ("upload.timeoutSeconds=1m", "--set upload.timeoutSeconds: expected a whole number, not '1m'"),
        ("upload.env.A B=1", "--set upload.env.A B: expected pattern"),
        ("upload.env.PORT=1", "--set upload.env.PORT: is set by Knative itself"),
        ("upload.resources.limits.memory=1GB", "--set upload.resources.limits.memory: expected an amount"),
        ("config-autoscaler.windw=1", "--set config-autoscaler.windw: is not a setting"),
        ("config-autoscaler.stable-window=1s", "--set config-autoscaler.stable-window: expected 6s to 1h"),
    ],
)
def test_a_mistake_names_the_option(tmp_path, override, said):
    with pytest.raises(BadConfig) as caught:
        read(tmp_path, override)
    assert caught.value.message.startswith("--set ")
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_a_mistake_in_the_file_that_an_option_led_to_names_both(tmp_path):
    document = changed(SERVICE, ANNOTATIONS, {"autoscaling.knative.dev/max-scale": "3"})
    with pytest.raises(BadConfig) as caught:
        read(tmp_path, "upload.autoscaling.knative.dev/min-scale=5", documents=(document,))
    assert caught.value.message.startswith("0.yaml: ")
    assert "expected at least min-scale, 5, not '3'" in caught.value.message
    assert caught.value.message.endswith("(after --set upload.autoscaling.knative.dev/min-scale)")


@pytest.mark.parametrize(
    "document",
    [
        changed(SERVICE, "spec", 5),
        changed(SERVICE, "spec.template.spec", []),
        changed(SERVICE, "spec.template.spec.containers", []),
        changed(SERVICE, f"{CONTAINER}.env", {}),
        changed(SERVICE, f"{CONTAINER}.env", [5]),
        changed(SERVICE, CONTAINER, None),
    ],
)
@pytest.mark.parametrize("override", [f"{WINDOW}=6s", "upload.env.A=1", "upload.resources.limits.memory=1Gi"])
def test_a_broken_file_is_still_what_is_wrong(tmp_path, document, override):
    with pytest.raises(BadConfig, match=r"^0\.yaml: spec"):
        read(tmp_path, override, documents=(document,))
