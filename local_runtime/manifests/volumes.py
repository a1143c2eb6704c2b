"""Volumes and their mounts: locally nothing is mounted, but what is written must be right."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from local_runtime.manifests.parts import NOTHING, Many, Part, Unread

_Mode = Annotated[int | None, Field(ge=0, le=0o777)]
_DefaultMode = Annotated[_Mode, Field(alias="defaultMode")]


class KeyToPath(Part):
    """A key that becomes a file."""

    key: str
    path: str
    mode: _Mode = None


class MapVolume(Part):
    """The keys of a ConfigMap, or a Secret within a projection, as files."""

    name: str = ""
    items: Many[KeyToPath] = ()
    optional: bool = False


class ConfigMapVolume(MapVolume):
    """The keys of a ConfigMap as files."""

    default_mode: _DefaultMode = None


class SecretVolume(Part):
    """The keys of a Secret as files."""

    secret_name: Annotated[str, Field(alias="secretName")] = ""
    items: Many[KeyToPath] = ()
    optional: bool = False
    default_mode: _DefaultMode = None


class FieldReference(Part):
    """A field of the pod."""

    api_version: Annotated[str, Field(alias="apiVersion")] = ""
    field_path: Annotated[str, Field(alias="fieldPath")]


class DownwardFile(Part):
    """A field of the pod as a file."""

    path: str
    mode: _Mode = None
    field_ref: Annotated[FieldReference | None, Field(alias="fieldRef")] = None
    resource_field_ref: Annotated[Unread, Field(alias="resourceFieldRef")] = NOTHING


class DownwardVolume(Part):
    """Fields of the pod as files."""

    items: Many[DownwardFile] = ()


class TokenVolume(Part):
    """A token of the pod's account as a file."""

    path: str
    audience: str = ""
    expiration_s: Annotated[int, Field(alias="expirationSeconds", ge=0)] = 3600


class Projection(Part):
    """One of the things that a projected volume shows."""

    config_map: Annotated[MapVolume | None, Field(alias="configMap")] = None
    secret: MapVolume | None = None
    downward: Annotated[DownwardVolume | None, Field(alias="downwardAPI")] = None
    token: Annotated[TokenVolume | None, Field(alias="serviceAccountToken")] = None

    @model_validator(mode="after")
    def _check_one(self) -> Projection:
        if len(self.model_fields_set) != 1:
            raise ValueError("expected one of configMap, secret, downwardAPI and serviceAccountToken")
        return self


class ProjectedVolume(Part):
    """Several things in one volume."""

    sources: Many[Projection] = ()
    default_mode: _DefaultMode = None


class Volume(Part):
    """A volume of a function."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    secret: SecretVolume | None = None
    config_map: Annotated[ConfigMapVolume | None, Field(alias="configMap")] = None
    projected: ProjectedVolume | None = None
    empty_dir: Annotated[Unread | None, Field(alias="emptyDir")] = None
    persistent_volume_claim: Annotated[Unread | None, Field(alias="persistentVolumeClaim")] = None
    host_path: Annotated[Unread | None, Field(alias="hostPath")] = None
    csi: Unread | None = None
    ephemeral: Unread | None = None
    image: Unread | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Volume:
        if len(self.model_fields_set - {"name"}) != 1:
            raise ValueError("expected one kind of volume beside the name, such as secret or emptyDir")
        return self


class VolumeMount(Part):
    """Where a function would find a volume."""

    name: str
    mount_path: Annotated[str, Field(alias="mountPath")]
    read_only: Annotated[bool, Field(alias="readOnly")] = False
    sub_path: Annotated[str, Field(alias="subPath")] = ""
    mount_propagation: Annotated[str, Field(alias="mountPropagation")] = ""

    @field_validator("mount_path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if not path.startswith("/") or path.rstrip("/") in {"", "/dev", "/dev/log"}:
            raise ValueError("expected an absolute path other than /, /dev and /dev/log")
        return path
