"""The manifests of deploy/knative, as far as the local runtime acts on them.

The very files that are deployed are read, strictly: what is not understood is refused, not ignored. What is
the cluster's business alone (where a pod runs, with which rights) is checked for its form and read past.
"""

from local_runtime.manifests.cluster import ClusterSettings
from local_runtime.manifests.container import Container, FunctionContainer, SourceContainer
from local_runtime.manifests.environment import expand_references
from local_runtime.manifests.maps import ConfigMap, Secret
from local_runtime.manifests.probes import HttpGet, LivenessProbe, Probe, ReadinessProbe, TcpSocket
from local_runtime.manifests.reading import Manifest, Manifests, parse_manifests, read_manifests
from local_runtime.manifests.scaling import Scaling
from local_runtime.manifests.service import Service
from local_runtime.manifests.sources import ContainerSource, PingSource, Sink

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
