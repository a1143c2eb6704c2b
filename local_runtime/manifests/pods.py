"""What runs in a pod: a Service's, which Knative restricts, and a ContainerSource's, which it does not."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from local_runtime.manifests.container import FunctionContainer, SourceContainer
from local_runtime.manifests.parts import NOTHING, Many, Part, Unread, build_mistake
from local_runtime.manifests.volumes import Volume

#: Knative's defaults (its ConfigMap config-defaults).
_DEFAULT_TIMEOUT_S = 300
_DEFAULT_RESPONSE_START_S = 300
_LONGEST_TIMEOUT_S = 600

_Seconds = Annotated[int, Field(ge=0, le=_LONGEST_TIMEOUT_S)]


class PullSecret(Part):
    """The Secret with which an image is pulled."""

    name: str = ""


class Pod(Part):
    """What both have: where a cluster puts the pod, and with which rights, is read past."""

    service_account_name: Annotated[str, Field(alias="serviceAccountName")] = ""
    automount_token: Annotated[bool, Field(alias="automountServiceAccountToken")] = True
    image_pull_secrets: Annotated[Many[PullSecret], Field(alias="imagePullSecrets")] = ()
    enable_service_links: Annotated[bool, Field(alias="enableServiceLinks")] = False
    affinity: Unread = NOTHING
    node_selector: Annotated[dict[str, str], Field(alias="nodeSelector")] = NOTHING
    tolerations: Many[Unread] = ()
    topology_spread_constraints: Annotated[Many[Unread], Field(alias="topologySpreadConstraints")] = ()
    dns_config: Annotated[Unread, Field(alias="dnsConfig")] = NOTHING
    dns_policy: Annotated[str, Field(alias="dnsPolicy")] = ""
    host_aliases: Annotated[Many[Unread], Field(alias="hostAliases")] = ()
    host_ipc: Annotated[bool, Field(alias="hostIPC")] = False
    host_network: Annotated[bool, Field(alias="hostNetwork")] = False
    host_pid: Annotated[bool, Field(alias="hostPID")] = False
    priority_class_name: Annotated[str, Field(alias="priorityClassName")] = ""
    runtime_class_name: Annotated[str, Field(alias="runtimeClassName")] = ""
    scheduler_name: Annotated[str, Field(alias="schedulerName")] = ""
    share_process_namespace: Annotated[bool, Field(alias="shareProcessNamespace")] = False
    #: Nobody would wait for them locally; Knative takes them only where an administrator switched that on.
    init_containers: Annotated[Many[Unread], Field(alias="initContainers", max_length=0)] = ()
    security_context: Annotated[Unread, Field(alias="securityContext")] = NOTHING


class FunctionPod(Pod):
    """The pod of a revision."""

    containers: Annotated[Many[FunctionContainer], Field(min_length=1, max_length=1)]
    volumes: Many[Volume] = ()

    @model_validator(mode="after")
    def _check_mounts(self) -> FunctionPod:
        names = [volume.name for volume in self.volumes]
        mounts = self.containers[0].volume_mounts
        for i, name in enumerate(names):
            if name in names[:i]:
                raise build_mistake(("volumes", i, "name"), name, "stands twice")
            if name not in {mount.name for mount in mounts}:
                raise build_mistake(("volumes", i, "name"), name, "is not mounted by any container")
        for i, mount in enumerate(mounts):
            path = ("containers", 0, "volumeMounts", i)
            if mount.name not in names:
                raise build_mistake((*path, "name"), mount.name, "expected the name of a volume")
            if mount.mount_path in {other.mount_path for other in mounts[:i]}:
                raise build_mistake((*path, "mountPath"), mount.mount_path, "stands twice")
        return self


class RevisionSpec(FunctionPod):
    """What every instance of a revision is like."""

    #: Requests at once per instance; 0: no limit.
    container_concurrency: Annotated[int, Field(alias="containerConcurrency", ge=0, le=1000)] = 0
    timeout_seconds: Annotated[_Seconds, Field(alias="timeoutSeconds")] = 0
    response_start_timeout_seconds: Annotated[_Seconds | None, Field(alias="responseStartTimeoutSeconds")] = (
        None
    )
    idle_timeout_seconds: Annotated[_Seconds, Field(alias="idleTimeoutSeconds")] = 0

    @property
    def timeout_s(self) -> int:
        """How long a request may take, waiting included."""
        return self.timeout_seconds or _DEFAULT_TIMEOUT_S

    @property
    def response_start_timeout_s(self) -> int | None:
        """How long an answer may take to begin; None: as long as the request may take.

        Knative's own default, 300, holds where timeoutSeconds is more than that.
        """
        if self.response_start_timeout_seconds is None:
            return _DEFAULT_RESPONSE_START_S if self.timeout_s > _DEFAULT_RESPONSE_START_S else None
        return self.response_start_timeout_seconds or None

    @property
    def idle_timeout_s(self) -> int | None:
        """How long nothing may come of an answer that has begun; None: any time."""
        return self.idle_timeout_seconds or None

    @model_validator(mode="after")
    def _check_timeouts(self) -> RevisionSpec:
        for alias, value in (
            ("responseStartTimeoutSeconds", self.response_start_timeout_seconds or 0),
            ("idleTimeoutSeconds", self.idle_timeout_seconds),
        ):
            if value > self.timeout_s:
                raise build_mistake((alias,), value, f"expected at most timeoutSeconds, {self.timeout_s}")
        return self


class SourcePod(Pod):
    """The pod of a ContainerSource: all that Kubernetes knows."""

    containers: Annotated[Many[SourceContainer], Field(min_length=1, max_length=1)]
    volumes: Many[Unread] = ()
    service_account: Annotated[str, Field(alias="serviceAccount")] = ""
    termination_grace_period_s: Annotated[int, Field(alias="terminationGracePeriodSeconds", ge=0)] = 30
    restart_policy: Annotated[str, Field(alias="restartPolicy")] = "Always"
    node_name: Annotated[str, Field(alias="nodeName")] = ""
    host_users: Annotated[bool, Field(alias="hostUsers")] = True
    hostname: str = ""
    subdomain: str = ""
    os: Unread = NOTHING
    overhead: Unread = NOTHING
    preemption_policy: Annotated[str, Field(alias="preemptionPolicy")] = ""
    priority: int = 0
    readiness_gates: Annotated[Many[Unread], Field(alias="readinessGates")] = ()
    resources: Unread = NOTHING
    set_hostname_as_fqdn: Annotated[bool, Field(alias="setHostnameAsFQDN")] = False
