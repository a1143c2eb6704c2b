"""Manifests for tests: small ones, changed at a path."""

from __future__ import annotations

import copy
import json

import pytest

from local_runtime.manifests import parse_manifests
from shared.errors import BadConfig

CONTAINER = "spec.template.spec.containers.0"
ANNOTATIONS = "spec.template.metadata.annotations"
SERVICE = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "upload"},
    "spec": {
        "template": {
            "metadata": {"annotations": {}},
            "spec": {
                "containers": [{"image": "x", "command": ["run"], "env": [{"name": "A", "value": "1"}]}]
            },
        }
    },
}
PING = {
    "apiVersion": "sources.knative.dev/v1",
    "kind": "PingSource",
    "metadata": {"name": "tick"},
    "spec": {"sink": {"uri": "http://127.0.0.1:1"}},
}
SOURCE = {
    "apiVersion": "sources.knative.dev/v1",
    "kind": "ContainerSource",
    "metadata": {"name": "watch"},
    "spec": {
        "sink": {"uri": "http://127.0.0.1:1"},
        "template": {"spec": {"containers": [{"name": "watch", "image": "x", "command": ["run"]}]}},
    },
}
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings"},
    "data": {"level": "debug"},
}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "keys"},
    "stringData": {"token": "hunter2"},
}
CLUSTER = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "config-autoscaler", "namespace": "knative-serving"},
    "data": {},
}


def changed(document, path, value):
    """A copy with a value put at a path such as `spec.template`; mappings on the way are made."""
    result = copy.deepcopy(document)
    steps = path if isinstance(path, tuple) else tuple(path.split("."))
    steps = tuple(int(step) if str(step).isdigit() else step for step in steps)
    place = result
    for step in steps[:-1]:
        place = place[step] if isinstance(step, int) else place.setdefault(step, {})
    place[steps[-1]] = value
    return result


def iter_paths(value, path=()):
    """The paths of all values in a document."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in inner:
        yield from iter_paths(one, (*path, step))


def annotated(**annotations):
    """A Service with annotations of the autoscaler, `_` for `-`."""
    found = {f"autoscaling.knative.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return changed(SERVICE, ANNOTATIONS, found)


def parsed(*documents):
    """The manifests of one file with these documents."""
    return parse_manifests("\n---\n".join(json.dumps(document) for document in documents), "x.yaml")


def refused(*documents):
    """What is said about documents that are refused."""
    with pytest.raises(BadConfig) as caught:
        parsed(*documents)
    assert "\n" not in caught.value.message
    return caught.value.message


def folder(path, *documents):
    """A folder with a file for each document."""
    for number, document in enumerate(documents):
        (path / f"{number}.yaml").write_text(json.dumps(document))
    return path
