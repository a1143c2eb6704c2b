"""The endpoints of query: which hosts there are."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.api.endpoint import Shape
from shared.api.gpus import GpuPage, declare_list
from shared.api.records import Gpu, GpuFilter, Status
from shared.errors import NotFound, Transient


class HostFilter(GpuFilter):
    """Which hosts: those with GPUs that match, of which only these are counted; status is the host's."""


class HostGpusWanted(GpuPage):
    """Which GPUs of a host."""

    hostname: Annotated[str, Field(min_length=1, description="the host's name, exactly")]


class Host(Shape):
    """A host and its GPUs, MIG instances counted each; active where one of them is."""

    hostname: str
    status: Status
    gpu_count: int
    active: int
    stale: int
    clusters: list[str]
    models: list[str]
    first_seen: str
    last_seen: str


LIST_HOSTS = declare_list(
    "/api/v1/hosts",
    "The hosts there are",
    HostFilter,
    list[Host],
    "Ordered by name. `status` chooses by the host's status; the other filters choose GPUs, and what is "
    "counted and listed of a host is of these.",
)
HOST_GPUS = declare_list(
    "/api/v1/hosts/{hostname}/gpus",
    "The GPUs of one host",
    HostGpusWanted,
    list[Gpu],
    "Ordered by index and uuid.",
    (NotFound, Transient),
)
ENDPOINTS = (LIST_HOSTS, HOST_GPUS)
