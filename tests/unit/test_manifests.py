"""The manifests in the repository are understood, and mistakes in them are named."""

from __future__ import annotations

import pytest
import yaml

from local_runtime.manifests import parse_manifests, read_manifests
from local_runtime.plan import REPOSITORY
from shared.config import Settings
from shared.errors import BadConfig

BASE = REPOSITORY / "deploy" / "knative" / "base"


def changed(file, path, value):
    """The text of a manifest with one value changed."""
    document = yaml.safe_load((BASE / file).read_text())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return yaml.safe_dump(document)


def test_the_base_describes_three_functions_a_cron_and_the_queue_source():
    manifests = read_manifests(BASE)
    assert [s.metadata.name for s in manifests.services] == ["collect", "query", "upload"]
    assert [s.metadata.name for s in manifests.ping_sources] == ["collect-tick"]
    assert [s.metadata.name for s in manifests.container_sources] == ["queue-source"]


def test_every_function_scales_from_zero_to_ten():
    for service in read_manifests(BASE).services:
        annotations = service.spec.template.metadata.annotations
        assert annotations["autoscaling.knative.dev/min-scale"] == "0"
        assert annotations["autoscaling.knative.dev/max-scale"] == "10"


def test_only_collect_is_kept_off_the_public_gateway():
    hidden = [
        s.metadata.name
        for s in read_manifests(BASE).services
        if s.metadata.labels.get("networking.knative.dev/visibility") == "cluster-local"
    ]
    assert hidden == ["collect"]


def test_a_function_has_a_thread_for_each_request_it_is_sent():
    manifests = read_manifests(BASE)
    for service in manifests.services:
        threads = int(manifests.environment(service.container)["THREADS"])
        assert threads > service.spec.template.spec.container_concurrency


def test_the_kustomization_lists_every_manifest():
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(f.name for f in BASE.glob("*.yaml") if f.name != "kustomization.yaml")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec", "template", "spec", "timeoutSeconds"), 601, "spec.template.spec.timeoutSeconds: "),
        (("spec", "template", "spec", "containerConcurency"), 1, "spec.template.spec.containerConcurency: "),
        (("spec", "template", "spec", "containers"), [], "spec.template.spec.containers: "),
        (("metadata", "name"), "Upload", "metadata.name: "),
        (("metadata", "labels"), {"a": 1}, "metadata.labels.a: "),
        (("spec", "template", "metadata", "annotations"), {"a": 0}, "spec.template.metadata.annotations.a: "),
        (("kind",), "Deployment", "kind 'Deployment'"),
    ],
)
def test_a_mistake_is_named_with_file_path_and_value(path, value, said):
    with pytest.raises(BadConfig) as caught:
        parse_manifests(changed("upload.yaml", path, value), "upload.yaml")
    message = caught.value.message
    assert message.startswith("upload.yaml: ")
    assert said in message
    assert "\n" not in message


def test_the_value_that_is_wrong_is_shown():
    text = changed("upload.yaml", ("spec", "template", "spec", "timeoutSeconds"), 601)
    with pytest.raises(BadConfig, match="not 601"):
        parse_manifests(text, "upload.yaml")


@pytest.mark.parametrize("text", ["a: [", "- 1", "just text", "{}"])
def test_what_is_no_resource_is_refused_in_one_line(text):
    with pytest.raises(BadConfig) as caught:
        parse_manifests(text, "x.yaml")
    assert caught.value.message.startswith("x.yaml: ")
    assert "\n" not in caught.value.message


def test_a_sink_needs_somewhere_to_go():
    with pytest.raises(BadConfig, match=r"cron.yaml: spec.sink: expected a ref or an absolute uri"):
        parse_manifests(changed("cron.yaml", ("spec", "sink"), {"uri": "/collect"}), "cron.yaml")


def test_two_services_of_one_name_are_refused(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text((BASE / "upload.yaml").read_text())
    with pytest.raises(BadConfig, match="two of kind Service named 'upload'"):
        read_manifests(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadConfig, match="no manifests"):
        read_manifests(tmp_path)


def test_a_socket_ends_before_its_request_would_be_cut():
    (query,) = [s for s in read_manifests(BASE).services if s.metadata.name == "query"]
    assert query.spec.template.spec.timeout_s > Settings().websocket_timeout + 10
