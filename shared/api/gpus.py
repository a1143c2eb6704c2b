"""The endpoints of query: which GPUs and hosts there are."""

from __future__ import annotations

from shared.api.endpoint import Answer, Endpoint, Parameters
from shared.api.records import PAGE, AsOf, Gpu, Host
from shared.errors import Transient


class GpusWanted(Parameters):
    """Which GPUs."""

    as_of: AsOf = "now"


LIST_GPUS = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/gpus",
    summary="The GPUs there are",
    tag="gpus",
    parameters=GpusWanted,
    answers=(Answer(data=list[Gpu], beside=PAGE, description="Ordered by host and index."),),
    errors=(Transient,),
)
LIST_HOSTS = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/hosts",
    summary="The hosts there are",
    tag="gpus",
    parameters=GpusWanted,
    answers=(Answer(data=list[Host], beside=PAGE, description="Ordered by name."),),
    errors=(Transient,),
)
ENDPOINTS = (LIST_GPUS, LIST_HOSTS)
