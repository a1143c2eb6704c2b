"""The manifests of deploy/knative, as far as the local runtime acts on them.

The very files that are deployed are read, strictly: what is not understood is refused, not ignored. What is
the cluster's business alone (where a pod runs, with which rights) is known by name and read past.
"""

from local_runtime.manifests.container import (
    Container,
    FunctionContainer,
    HttpGet,
    LivenessProbe,
    Probe,
    ReadinessProbe,
    SourceContainer,
    TcpSocket,
)
from local_runtime.manifests.environment import ConfigMap, Secret, expand_references
from local_runtime.manifests.reading import Manifest, Manifests, parse_manifests, read_manifests
from local_runtime.manifests.resources import ContainerSource, PingSource, Service, Sink
from local_runtime.manifests.scaling import ClusterSettings, Scaling

__all__ = [
    "ClusterSettings",
    "ConfigMap",
    "Container",
    "ContainerSource",
    "FunctionContainer",
    "HttpGet",
    "LivenessProbe",
    "Manifest",
    "Manifests",
    "PingSource",
    "Probe",
    "ReadinessProbe",
    "Scaling",
    "Secret",
    "Service",
    "Sink",
    "SourceContainer",
    "TcpSocket",
    "expand_references",
    "parse_manifests",
    "read_manifests",
]
