"""The endpoints of upload: taking CSV, the uploads that were made, importing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from shared.api.endpoint import Answer, Endpoint, Open, Parameters, RequestBody, Shape
from shared.api.types import Count, Flag
from shared.errors import (
    Conflict,
    LimitExceeded,
    NoSpace,
    NotFound,
    NothingAccepted,
    Transient,
    UnsupportedMedia,
)
from shared.keys import is_upload_id

ARROW = "application/vnd.apache.arrow.stream"
NDJSON = "application/x-ndjson"
#: Uploads of one listing, unless limit= says otherwise, and at most.
DEFAULT_LIMIT, MAX_LIMIT = 50, 500
_ACCEPTED = "how many rows were accepted"
_PUBLISHING = (LimitExceeded, UnsupportedMedia, NothingAccepted, NoSpace, Transient)


def _upload_id(text: str) -> str:
    if not is_upload_id(text):
        raise ValueError("expected the id of an upload: it is in the upload's answer")
    return text


UploadId = Annotated[
    str,
    AfterValidator(_upload_id),
    Field(pattern=None, json_schema_extra={"pattern": "^[0-9a-f]{12}-[0-9a-f]{12}$"}),
]


class UploadFile(Parameters):
    """What is said of a file beside its bytes."""

    filename: Annotated[str, Field(description="the name that reports call it by")] = ""


class OneUpload(Parameters):
    """Which upload."""

    upload: Annotated[UploadId, Field(description="the upload's id")]


class UploadsPage(Parameters):
    """A page of the uploads, newest first."""

    limit: Annotated[Count, Field(description=f"how many, at most {MAX_LIMIT}")] = DEFAULT_LIMIT
    before: Annotated[UploadId | None, Field(description="go on after this upload: `next` of a page")] = None
    full: Annotated[Flag, Field(description="with each the whole record of it")] = False


class Undoing(OneUpload):
    """Which upload is undone, and whether really."""

    dry_run: Annotated[Flag, Field(description="only say what would go")] = False


class BadCell(Shape):
    """A cell, or a whole line where `column` is null, that could not be taken as it is."""

    line: int
    column: str | None
    value: str
    reason: str


class Report(Open):
    """What became of every row of a file."""

    upload_id: str
    filename: str
    bytes: int
    sha256: str
    dialect: str
    rows: int
    accepted: int
    rejected: int
    values_nulled: int
    gpus: int
    hosts: int
    first_timestamp: str | None
    last_timestamp: str | None
    warnings: list[str]
    errors: list[BadCell]
    errors_total: int
    messages: int


class UploadState(Open):
    """The record of an upload, and what has become of it since."""

    upload_id: str
    state: Literal["queued", "stored", "dead", "deleting", "deleted"]
    messages_queued: int
    messages_dead: int


class UploadListed(Open):
    """An upload in a listing."""

    upload_id: str
    received_at: str
    filename: str | None
    imported: bool


class Undone(Shape):
    """What of an upload went, or would go."""

    upload_id: str
    state: Literal["deleted", "deleting", "would be deleted"]
    rows: int
    messages: int
    segments: int
    gpus: int
    first_timestamp: str | None
    last_timestamp: str | None
    warnings: list[str]


class Imported(Shape):
    """How many records of uploads were put, and how many were there already."""

    put: int
    present: int


class Status(Open):
    """The state of the function, of the queue and of etcd."""

    service: str
    version: str
    uptime_s: float
    queue: dict[str, Any]
    etcd: dict[str, Any]
    config: dict[str, Any]


UPLOAD_CSV = Endpoint(
    service="upload",
    method="POST",
    path="/api/v1/csv/upload",
    summary="Upload a CSV of telemetry",
    description=(
        "Answers once every accepted row is durable; they are queryable a moment later. Every bad row is "
        "named, the good ones beside it go through. Uploading a file twice changes nothing."
    ),
    tag="upload",
    role="ingest",
    parameters=UploadFile,
    body=RequestBody(
        description="The CSV, or a form whose field `file` it is.",
        types=("text/csv", "application/octet-stream", "multipart/form-data"),
    ),
    answers=(Answer(data=Report, description="What became of every row.", rows=_ACCEPTED),),
    errors=_PUBLISHING,
)
STATUS = Endpoint(
    service="upload",
    method="GET",
    path="/api/v1/status",
    summary="The queue, etcd, and the settings in force",
    tag="operation",
    role="admin",
    answers=(Answer(data=Status, description="Read at most once a second."),),
    errors=(Transient,),
)
LIST_UPLOADS = Endpoint(
    service="upload",
    method="GET",
    path="/api/v1/uploads",
    summary="The uploads that were made, newest first",
    tag="upload",
    role="ingest",
    parameters=UploadsPage,
    answers=(
        Answer(
            data=list[UploadListed],
            beside={"count": int, "next": str | None},
            description="A page; `next` is what `before` takes for the one after it.",
        ),
    ),
    errors=(Transient,),
)
GET_UPLOAD = Endpoint(
    service="upload",
    method="GET",
    path="/api/v1/uploads/{upload}",
    summary="One upload, and whether its rows are stored",
    tag="upload",
    role="ingest",
    parameters=OneUpload,
    answers=(Answer(data=UploadState, description="The upload."),),
    errors=(NotFound, Transient),
)
DELETE_UPLOAD = Endpoint(
    service="upload",
    method="DELETE",
    path="/api/v1/uploads/{upload}",
    summary="Undo an upload, with all its rows",
    description="Values that the upload had overwritten do not come back.",
    tag="upload",
    role="admin",
    parameters=Undoing,
    answers=(
        Answer(data=Undone, description="All of it is gone."),
        Answer(status=202, data=Undone, description="Some is gone; the next ticks go on with it."),
    ),
    errors=(NotFound, Conflict, Transient),
)
IMPORT_ROWS = Endpoint(
    service="upload",
    method="POST",
    path="/api/v1/import",
    summary="Import rows that were exported, with the versions they had",
    tag="backup",
    role="admin",
    parameters=UploadFile,
    body=RequestBody(
        description="Arrow IPC streams with the columns of an export, not compressed.", types=(ARROW,)
    ),
    answers=(Answer(data=Report, description="What became of the rows.", rows=_ACCEPTED),),
    errors=_PUBLISHING,
)
IMPORT_UPLOADS = Endpoint(
    service="upload",
    method="POST",
    path="/api/v1/import/uploads",
    summary="Import the records of uploads",
    tag="backup",
    role="admin",
    body=RequestBody(description="One record, a JSON object, a line.", types=(NDJSON,)),
    answers=(Answer(data=Imported, description="What was done."),),
    errors=(*_PUBLISHING,),
)
ENDPOINTS = (UPLOAD_CSV, STATUS, LIST_UPLOADS, GET_UPLOAD, DELETE_UPLOAD, IMPORT_ROWS, IMPORT_UPLOADS)
