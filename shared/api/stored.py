"""The endpoints of query: what is stored, and how much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.api.endpoint import Answer, Endpoint, Parameters, Shape
from shared.api.gpus import UNCHANGED
from shared.api.records import AsOf
from shared.api.types import Flag
from shared.errors import Transient


class FieldsWanted(Parameters):
    """Which fields."""

    all: Annotated[Flag, Field(description="true: also those of the catalogue that no GPU reported")] = False


class FieldInfo(Shape):
    """A field of records: a metric, or a label such as pod."""

    name: str
    kind: Literal["metric", "label"]
    unit: str
    description: str
    #: The closed range of true values, null where it has no end.
    minimum: float | None
    maximum: float | None
    #: A metric that only grows.
    counter: bool
    #: What it is called in files, DCGM's own name first.
    names: list[str]
    #: GPUs that have reported it.
    gpus: int
    stored: bool


class ClustersWanted(Parameters):
    """Which moment the status of GPUs goes by."""

    as_of: AsOf = "now"


class Cluster(Shape):
    """A cluster: what CLUSTER_ID was where records were uploaded."""

    name: str
    hosts: int
    gpus: int
    active: int
    stale: int
    models: list[str]
    first_seen: str
    last_seen: str


class Level(Shape):
    """The segments of one level: 0 fresh, 1 and higher folded and merged."""

    level: int
    segments: int
    rows: int
    bytes: int


class IngestionDay(Shape):
    """What came in on one UTC day, by which retention goes."""

    day: str
    segments: int
    rows: int
    bytes: int


class Stats(Shape):
    """What the store holds, without the queue."""

    #: Rows in segments: a record that came in several versions is several rows until they are merged.
    rows: int
    #: Of segments and their inventories.
    bytes: int
    bytes_per_row: float | None
    segments: int
    levels: list[Level]
    days: list[IngestionDay]
    gpus: int
    hosts: int
    clusters: int
    fields: int
    first_time: str | None
    last_time: str | None
    #: A name of what is stored, another one whenever that changes.
    version: str


LIST_FIELDS = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/fields",
    summary="The fields that are stored",
    description="Metrics, those that every record has first, and labels: what each means, its unit and "
    "range, what it is called in files, and how many GPUs have ever reported it.",
    tag="stored",
    parameters=FieldsWanted,
    answers=(Answer(data=list[FieldInfo], beside={"count": int}), UNCHANGED),
    errors=(Transient,),
)
LIST_CLUSTERS = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/clusters",
    summary="The clusters there are",
    description="Ordered by name.",
    tag="stored",
    parameters=ClustersWanted,
    answers=(Answer(data=list[Cluster], beside={"count": int}), UNCHANGED),
    errors=(Transient,),
)
GET_STATS = Endpoint(
    service="query",
    method="GET",
    path="/api/v1/stats",
    summary="How much is stored",
    description="From the index and the inventory alone. `rows` counts rows of segments: a record that was "
    "uploaded twice counts twice until its segments are merged. What waits in the queue is not in it.",
    tag="stored",
    answers=(Answer(data=Stats), UNCHANGED),
    errors=(Transient,),
)
ENDPOINTS = (LIST_FIELDS, LIST_CLUSTERS, GET_STATS)
