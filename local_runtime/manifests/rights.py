"""Rights of a function's container: the cluster's business, but checked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from local_runtime.manifests.parts import Many, Part

_Id = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Capabilities(Part):
    """What a container may do beyond or below the ordinary."""

    add: Many[str] = ()
    drop: Many[str] = ()


class SeccompProfile(Part):
    """Which system calls a container may make."""

    type: str
    localhost_profile: Annotated[str, Field(alias="localhostProfile")] = ""


class SecurityContext(Part):
    """Rights of a function's container; the cluster's business."""

    allow_privilege_escalation: Annotated[bool | None, Field(alias="allowPrivilegeEscalation")] = None
    capabilities: Capabilities = Capabilities()
    privileged: bool | None = None
    read_only_root_filesystem: Annotated[bool | None, Field(alias="readOnlyRootFilesystem")] = None
    run_as_group: Annotated[_Id | None, Field(alias="runAsGroup")] = None
    run_as_non_root: Annotated[bool | None, Field(alias="runAsNonRoot")] = None
    run_as_user: Annotated[_Id | None, Field(alias="runAsUser")] = None
    seccomp_profile: Annotated[SeccompProfile | None, Field(alias="seccompProfile")] = None
