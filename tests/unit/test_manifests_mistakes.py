"""What the cluster would refuse is refused here, with file, path, what would be right and the value."""

from __future__ import annotations

import pytest

from tests.manifests import CONTAINER, PING, SERVICE, SOURCE, changed, parsed, refused

SPEC = "spec.template.spec"
PROBE = {"httpGet": {"path": "/health"}}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (f"{SPEC}.timeoutSeconds", 601, "expected less than or equal to 600, not 601"),
        (f"{SPEC}.timeoutSeconds", "60", "expected a whole number, not '60'"),
        (f"{SPEC}.timeoutSeconds", 60.5, "expected a whole number, not 60.5"),
        (f"{SPEC}.timeoutSeconds", None, "expected a value, or no such key, not None"),
        (f"{SPEC}.containerConcurrency", 1001, "expected less than or equal to 1000, not 1001"),
        (f"{SPEC}.containerConcurrency", True, "expected a whole number, not True"),
        (f"{SPEC}.responseStartTimeoutSeconds", 301, "expected at most timeoutSeconds, 300, not 301"),
        (f"{SPEC}.idleTimeoutSeconds", 301, "expected at most timeoutSeconds, 300, not 301"),
        (f"{SPEC}.timeoutSecond", 1, "is not a field that is known here (did you mean timeoutSeconds?)"),
        (f"{SPEC}.timeout_s", 1, "is not a field that is known here"),
        (f"{SPEC}.terminationGracePeriodSeconds", 30, "is refused by Knative"),
        (f"{SPEC}.initContainers", [{}], "is not run locally"),
        (f"{SPEC}.containers", {}, "expected a list, not a mapping"),
        (f"{SPEC}.containers", [], "expected at least 1 item"),
        (f"{CONTAINER}.lifecycle", {}, "is refused by Knative"),
        (f"{CONTAINER}.image", "", "expected at least 1 character"),
        (f"{CONTAINER}.command", "run", "expected a list, not 'run'"),
        (f"{CONTAINER}.args", [1], ""),
        (f"{CONTAINER}.env.0.value", 12, "expected a string; in YAML quote it, not 12"),
        (f"{CONTAINER}.env.0.name", "A B", "expected pattern"),
        (f"{CONTAINER}.env.0.name", "K_SERVICE", "is set by Knative itself, not 'K_SERVICE'"),
        (f"{CONTAINER}.ports", [{"name": "metrics"}], ""),
        (f"{CONTAINER}.ports", [{}, {}], "expected at most 1 item"),
        (f"{CONTAINER}.resources.limits.memory", "512MB", "expected an amount such as 512Mi"),
        (f"{CONTAINER}.resources.limits.memory", -1, "expected 0 or more, not -1"),
        (f"{CONTAINER}.resources.limits.memory", 0.5, "or a whole number, not 0.5"),
        (f"{CONTAINER}.resources.claims", [], "is not a field that is known here"),
        (f"{CONTAINER}.readinessProbe", {"exec": {"command": ["a"]}}, ""),
        (f"{CONTAINER}.readinessProbe", {"grpc": {}}, ""),
        (f"{CONTAINER}.readinessProbe", PROBE | {"tcpSocket": {}}, "expected one of httpGet and tcpSocket"),
        (f"{CONTAINER}.readinessProbe.failureThreshold", 3, "needs a periodSeconds of at least 1 beside it"),
        (f"{CONTAINER}.readinessProbe.httpGet.port", 9000, "expected the container's port or none, not 9000"),
        (f"{CONTAINER}.startupProbe", {"tcpSocket": {"port": 9000}}, ""),
        (f"{CONTAINER}.readinessProbe.httpGet.host", "example.org", "expected '', not 'example.org'"),
        (f"{CONTAINER}.livenessProbe.successThreshold", 2, "expected 1, not 2"),
        ("spec.template.metadata.name", "other-1", "expected a name that begins with upload-, not 'other-1'"),
        ("metadata.name", "Upload", "expected pattern"),
        ("metadata.labels", {"a": 1}, ""),
        (("metadata", "labels", "networking.knative.dev/visibility"), "public", "expected cluster-local"),
        (("metadata", "annotations", "autoscaling.knative.dev/window"), "6s", "belongs under spec.template"),
    ],
)
def test_a_mistake_in_a_service(path, value, said):
    message = refused(changed(SERVICE, path, value))
    steps = path if isinstance(path, str) else ".".join(path)
    assert message.startswith(f"x.yaml: {steps}")
    assert said in message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (f"{CONTAINER}.args", [1], "args.0: expected a string"),
        (f"{CONTAINER}.ports", [{"name": "h2c"}], "ports.0.name: expected 'http1' or '', not 'h2c'"),
        (
            f"{CONTAINER}.env.0.valueFrom",
            {"configMapKeyRef": {"key": "k"}},
            "value: expected value or valueFrom",
        ),
        (f"{CONTAINER}.env.0", {"name": "A", "valueFrom": {}}, "valueFrom: expected at least 1 item"),
        (
            f"{CONTAINER}.env.0",
            {"name": "A", "valueFrom": {"fieldRef": {}}},
            "fieldRef: expected 'configMapKeyRef' or 'secretKeyRef'",
        ),
        (f"{CONTAINER}.envFrom", [{}], "envFrom.0: expected one of configMapRef and secretRef"),
        (f"{CONTAINER}.readinessProbe", {"exec": {}}, "exec: is not asked locally: use httpGet or tcpSocket"),
    ],
)
def test_a_mistake_further_down_is_named_where_it_is(path, value, said):
    assert said in refused(changed(SERVICE, path, value))


def test_the_line_is_named():
    assert refused(changed(SERVICE, "spec.template.spec.timeoutSeconds", 601)).endswith("(line 1)")


@pytest.mark.parametrize(
    ("document", "path", "value", "said"),
    [
        (PING, "spec.sink", {}, "spec.sink: expected a ref or an absolute uri"),
        (PING, "spec.sink", {"uri": "/collect"}, "spec.sink: expected a ref or an absolute uri"),
        (
            PING,
            "spec.ceOverrides",
            {"extensions": {"a-b": "c"}},
            "a-b: expected pattern",
        ),
        (
            PING,
            "spec.ceOverrides",
            {"extensions": {"a": 1}},
            "spec.ceOverrides.extensions.a: expected a string",
        ),
        (PING, "spec.every", "1m", "spec.every: is not a field that is known here"),
        (
            PING,
            "spec.sink",
            {"ref": {"apiVersion": "v1", "kind": "Service", "name": "a"}},
            "ref.apiVersion: ",
        ),
        (SOURCE, f"{CONTAINER}.name", "", "containers.0.name: expected at least 1 char"),
        (SOURCE, f"{CONTAINER}.comand", [], "did you mean command?"),
    ],
)
def test_a_mistake_in_a_source(document, path, value, said):
    assert said in refused(changed(document, path, value))


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("eventing.knative.dev/v1", "Trigger"),
        ("eventing.knative.dev/v1", "Broker"),
        ("sources.knative.dev/v1", "SinkBinding"),
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
    ],
)
def test_a_kind_that_is_not_run_locally_is_named(version, kind):
    message = refused({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}})
    assert message.startswith(f"x.yaml: kind: '{kind}' of '{version}' is not run locally")


def test_a_namespace_is_read_past():
    parsed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gpu"}})


def test_what_only_a_cluster_acts_on_is_accepted():
    container = SERVICE["spec"]["template"]["spec"]["containers"][0] | {
        "imagePullPolicy": "Always",
        "securityContext": {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tokens", "mountPath": "/etc/tokens", "readOnly": True}],
        "resources": {
            "limits": {"memory": "512Mi", "nvidia.com/gpu": 1},
            "requests": {"memory": "0.5Gi", "cpu": "250m"},
        },
        "readinessProbe": PROBE | {"periodSeconds": 5},
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "tokens", "secret": {"secretName": "tokens"}}],
        "serviceAccountName": "gpu",
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    }
    document = changed(SERVICE, "spec.template.spec", pod)
    document = changed(document, "spec.traffic", [{"latestRevision": True, "percent": 100}])
    document = changed(document, "metadata.creationTimestamp", None)
    (service,) = parsed(changed(document, "status", {"url": "http://x"}))
    assert service.container.memory_limit_bytes == 512 * 1024**2


def test_a_pod_of_a_source_may_have_what_knative_refuses_in_a_service():
    document = changed(SOURCE, f"{CONTAINER}.lifecycle", {"preStop": {}})
    parsed(changed(document, "spec.template.spec.terminationGracePeriodSeconds", 60))
