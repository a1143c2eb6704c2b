"""The manifests in the repository are understood, and mistakes in them are named."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.manifests import parse_manifests, read_manifests
from local_runtime.plan import REPOSITORY
from shared.config import Settings
from shared.errors import BadConfig
from tests.manifests import CLUSTER, CONFIG, PING, SECRET, SERVICE, SOURCE, changed, iter_paths

BASE = REPOSITORY / "deploy" / "knative" / "base"


def said_about(text):
    """What is said about a file; None: nothing, it is taken."""
    try:
        parse_manifests(text, "x.yaml")
    except BadConfig as exc:
        return exc.message
    return None


def test_the_base_describes_three_functions_a_cron_and_the_queue_source():
    manifests = read_manifests(BASE)
    assert [s.metadata.name for s in manifests.services] == ["collect", "query", "upload"]
    assert [s.metadata.name for s in manifests.ping_sources] == ["collect-tick"]
    assert [s.metadata.name for s in manifests.container_sources] == ["queue-source"]


def test_every_function_scales_from_zero_to_ten():
    for service in read_manifests(BASE).services:
        assert (service.scaling.min_scale, service.scaling.max_scale) == (0, 10)


def test_only_collect_is_kept_off_the_public_gateway():
    hidden = [s.metadata.name for s in read_manifests(BASE).services if s.is_cluster_local]
    assert hidden == ["collect"]


def test_an_answer_may_begin_as_late_as_it_may_end():
    for service in read_manifests(BASE).services:
        spec = service.spec.template.spec
        assert spec.response_start_timeout_s in {None, spec.timeout_s}


def test_a_function_has_a_thread_for_each_request_it_is_sent():
    manifests = read_manifests(BASE)
    for service in manifests.services:
        threads = int(manifests.environment(service.container)["THREADS"])
        assert threads > service.spec.template.spec.container_concurrency


def test_the_kustomization_lists_every_manifest():
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(f.name for f in BASE.glob("*.yaml") if f.name != "kustomization.yaml")


def test_the_line_of_a_mistake_is_named():
    text = (BASE / "upload.yaml").read_text().replace('value: "12"', "value: 12")
    line = text[: text.index("value: 12")].count("\n") + 1
    with pytest.raises(BadConfig) as caught:
        parse_manifests(text, "upload.yaml")
    assert caught.value.message == (
        "upload.yaml: spec.template.spec.containers.0.env.5.value: "
        f"expected a string; in YAML quote it, not 12 (line {line})"
    )


@pytest.mark.parametrize("text", ["a: [", "- 1", "just text", "{}"])
def test_what_is_no_resource_is_refused_in_one_line(text):
    with pytest.raises(BadConfig) as caught:
        parse_manifests(text, "x.yaml")
    assert caught.value.message.startswith("x.yaml: ")
    assert "\n" not in caught.value.message


def test_a_sink_needs_somewhere_to_go():
    with pytest.raises(BadConfig, match=r"cron.yaml: spec.sink: expected a ref or an absolute uri"):
        parse_manifests(json.dumps(changed(PING, "spec.sink", {"uri": "/collect"})), "cron.yaml")


def test_two_services_of_one_name_are_refused(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text((BASE / "upload.yaml").read_text())
    with pytest.raises(BadConfig, match="two of kind Service named 'upload'"):
        read_manifests(tmp_path)


def test_a_map_may_have_a_name_twice_but_not_in_one_namespace(tmp_path):
    (tmp_path / "a.yaml").write_text((BASE / "upload.yaml").read_text())
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "x"}}
    two = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "y"}}
    (tmp_path / "b.yml").write_text(yaml.safe_dump_all([one, two]))
    assert len(read_manifests(tmp_path).config_maps) == 2
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(one))
    with pytest.raises(BadConfig, match=r"two of kind ConfigMap named 'x/a', in b.yml and c.yaml"):
        read_manifests(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([SERVICE, PING, SOURCE, CONFIG, SECRET, CLUSTER]), JSON, st.data())
def test_whatever_stands_anywhere_is_taken_or_refused_in_one_line(document, value, data):
    path = data.draw(st.sampled_from([path for path in iter_paths(document) if path]))
    said = said_about(json.dumps(changed(document, path, value)))
    assert said is None or (said.startswith("x.yaml: ") and said.isprintable())


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadConfig, match="no manifests"):
        read_manifests(tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [../base]")
    with pytest.raises(BadConfig, match="kustomize build"):
        read_manifests(tmp_path)


def test_a_socket_ends_before_its_request_would_be_cut():
    (query,) = [s for s in read_manifests(BASE).services if s.metadata.name == "query"]
    assert query.spec.template.spec.timeout_s > Settings().websocket_timeout + 10
