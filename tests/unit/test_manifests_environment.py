"""Variables from ConfigMaps and Secrets, of which no value is ever shown."""

from __future__ import annotations

import base64

import pytest

from local_runtime.manifests import expand_references, read_manifests
from shared.errors import BadConfig
from tests.manifests import CONFIG, CONTAINER, SECRET, SERVICE, changed, folder, parsed, refused

VALUE = "hunter2"
LEVEL = {"configMapKeyRef": {"name": "settings", "key": "level"}}
TOKEN = {"secretKeyRef": {"name": "keys", "key": "token"}}


def with_env(*variables, env_from=()):
    return changed(
        changed(SERVICE, f"{CONTAINER}.env", list(variables)), f"{CONTAINER}.envFrom", list(env_from)
    )


def environment(path, *documents):
    manifests = read_manifests(folder(path, *documents))
    return manifests.environment(manifests.services[0].container)


def test_values_come_from_configmaps_and_secrets(tmp_path):
    service = with_env({"name": "LEVEL", "valueFrom": LEVEL}, {"name": "TOKEN", "valueFrom": TOKEN})
    assert environment(tmp_path, service, CONFIG, SECRET) == {"LEVEL": "debug", "TOKEN": VALUE}


def test_env_goes_over_envfrom_and_the_later_one_over_the_earlier(tmp_path):
    more = changed(changed(CONFIG, "metadata.name", "more"), "data", {"level": "info", "size": "5"})
    sources = [
        {"configMapRef": {"name": "settings"}},
        {"configMapRef": {"name": "more"}},
        {"prefix": "KEY_", "secretRef": {"name": "keys"}},
    ]
    service = with_env({"name": "size", "value": "6"}, env_from=sources)
    assert environment(tmp_path, service, CONFIG, more, SECRET) == {
        "level": "info",
        "size": "6",
        "KEY_token": VALUE,
    }


def test_what_is_optional_may_be_missing(tmp_path):
    service = with_env(
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "a", "optional": True}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "none", "optional": True}}},
        {"name": "C", "value": "c"},
        env_from=[{"secretRef": {"name": "none", "optional": True}}],
    )
    assert environment(tmp_path, service, SECRET) == {"C": "c"}


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (
            with_env({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "a"}}}),
            "there is no ConfigMap 'none' in the folder (in this namespace there is settings)",
        ),
        (
            with_env({"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "none"}}}),
            "env.0.valueFrom.secretKeyRef.key: 'keys' has no 'none'; it has token",
        ),
        (
            with_env(env_from=[{"secretRef": {"name": "none"}}]),
            "envFrom.0.secretRef.name: there is no Secret",
        ),
        (with_env(env_from=[{"configMapRef": {}}]), "envFrom.0.configMapRef.name: there is no ConfigMap ''"),
    ],
)
def test_a_reference_to_what_is_not_there_is_named(tmp_path, service, said):
    with pytest.raises(BadConfig) as caught:
        read_manifests(folder(tmp_path, service, CONFIG, SECRET))
    assert caught.value.message.startswith(f"0.yaml: {CONTAINER}.env")
    assert said in caught.value.message
    assert VALUE not in caught.value.message


def test_a_configmap_of_another_namespace_is_not_seen(tmp_path):
    service = with_env({"name": "LEVEL", "valueFrom": LEVEL})
    with pytest.raises(BadConfig, match="there is no ConfigMap 'settings' in"):
        read_manifests(folder(tmp_path, service, changed(CONFIG, "metadata.namespace", "other")))
    service = changed(service, "metadata.namespace", "other")
    assert environment(tmp_path, service, changed(CONFIG, "metadata.namespace", "other")) == {
        "LEVEL": "debug"
    }


def test_data_of_a_secret_is_base64_and_stringdata_goes_before_it(tmp_path):
    data = {"token": base64.b64encode(b"old").decode(), "other": base64.b64encode("ä".encode()).decode()}
    service = with_env(env_from=[{"secretRef": {"name": "keys"}}])
    assert environment(tmp_path, service, changed(SECRET, "data", data)) == {"token": VALUE, "other": "ä"}


@pytest.mark.parametrize(
    "document",
    [
        changed(SECRET, "data", {"a": VALUE}),
        changed(SECRET, "data", VALUE),
        changed(SECRET, "stringData", VALUE),
        changed(SECRET, "stringData", {"a": [VALUE]}),
        changed(SECRET, "stringdata", {"a": VALUE}),
        changed(SECRET, ("stringData", "a b"), VALUE),
        changed(SECRET, "metadata.labels", {"a": [VALUE]}),
    ],
)
def test_a_mistake_in_a_secret_shows_no_value(document):
    message = refused(document)
    assert message.startswith("x.yaml: ")
    assert VALUE not in message


def test_a_secret_shows_no_value(tmp_path):
    manifests = read_manifests(folder(tmp_path, SERVICE, SECRET))
    for shown in (
        repr(manifests),
        repr(manifests.secrets),
        str(manifests.secrets[0]),
        repr(manifests.documents),
    ):
        assert VALUE not in shown


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"a\0b"])
def test_a_secret_that_is_no_text_cannot_be_a_variable(tmp_path, raw):
    secret = changed(SECRET, "data", {"raw": base64.b64encode(raw).decode()})
    service = with_env({"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "raw"}}})
    with pytest.raises(BadConfig, match=r"secretKeyRef: 'raw' (is not UTF-8|has a zero)"):
        read_manifests(folder(tmp_path, service, secret))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("data.level", 5, "data.level: expected a string; in YAML quote it, not 5"),
        ("data", {"a b": "c"}, "data.a b: expected pattern"),
        (
            "metadata.namespace",
            "knative-serving",
            "of Knative's own settings only config-autoscaler is known",
        ),
        ("spec", {}, "spec: is not a field that is known here"),
    ],
)
def test_a_mistake_in_a_configmap(path, value, said):
    assert said in refused(changed(CONFIG, path, value))


def test_binary_data_is_no_text(tmp_path):
    config = changed(CONFIG, "binaryData", {"raw": "/w=="})
    service = with_env({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "raw"}}})
    with pytest.raises(BadConfig, match="'settings' has no 'raw'; it has level"):
        read_manifests(folder(tmp_path, service, config))
    parsed(config)


def test_values_refer_to_earlier_ones(tmp_path):
    service = with_env(
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(LEVEL) $(C) $$(A) $A"},
        {"name": "C", "value": "3"},
        env_from=[{"prefix": "L", "configMapRef": {"name": "up"}}],
    )
    config = changed(changed(CONFIG, "metadata.name", "up"), "data", {"EVEL": "$(A)"})
    assert environment(tmp_path, service, config)["B"] == "1$(A) $(C) $(A) $A"


def test_references_in_arguments():
    assert expand_references("--port=$(PORT)", {"PORT": "8080"}) == "--port=8080"
