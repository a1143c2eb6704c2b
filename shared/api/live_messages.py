"""What clients of the WebSocket say; see shared/api/live.py. Imported when the first socket opens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: Items in a list of a subscription.
MOST_NAMES = 1000

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
NameList = Annotated[tuple[Name, ...], Field(max_length=MOST_NAMES)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Subscribe(_Message):
    """Send what fits, from now on or from a cursor on."""

    type: Literal["subscribe"]
    gpus: NameList = ()
    hosts: NameList = ()
    models: NameList = ()
    fields: NameList = ()
    cursor: Annotated[str, Field(pattern="^[0-9a-f]{1,16}$")] | None = None


class Unsubscribe(_Message):
    """Send nothing any more."""

    type: Literal["unsubscribe"]


class Ping(_Message):
    """Answer."""

    type: Literal["ping"]


ClientMessage = Annotated[Subscribe | Unsubscribe | Ping, Field(discriminator="type")]
