"""The endpoint of GraphQL."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from shared.api.endpoint import JSON, Answer, Endpoint, Parameters, RequestBody, Shape
from shared.errors import LimitExceeded, NotFound, Transient, UnsupportedMedia

GRAPHQL_RESPONSE = "application/graphql-response+json"
_DESCRIPTION = (
    "The same questions as over REST under the same names, several in one request: gpus, gpu, hosts, "
    "telemetry, latest, fields, clusters, stats, fleet. Mistakes in a query stand in `errors` of the answer; "
    "an outage is a 503 as everywhere."
)
_EXAMPLES = ["{ hosts { hostname gpu_count } }"]


class GraphQLQuery(Parameters):
    """A query in the address, for what can only GET."""

    query: Annotated[str, Field(description="the query", examples=_EXAMPLES)]
    variables: Annotated[str | None, Field(description="its variables, a JSON object")] = None
    operationName: Annotated[str | None, Field(description="which operation of it")] = None  # noqa: N815


class GraphQLRequest(Shape):
    """A query, its variables, and which of its operations is meant."""

    model_config = ConfigDict(extra="ignore", defer_build=True)

    query: Annotated[str, Field(examples=_EXAMPLES)]
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815  (GraphQL's own name)


class GraphQLError(Shape):
    """What is wrong, and where."""

    message: str
    locations: list[dict[str, int]] | None = None
    path: list[str | int] | None = None
    extensions: dict[str, Any] | None = None


class GraphQLAnswer(Shape):
    """What was asked for, and what was wrong with it."""

    data: dict[str, Any] | None = None
    errors: list[GraphQLError] | None = None


_ANSWERS = (
    Answer(body=GraphQLAnswer, types=(JSON, GRAPHQL_RESPONSE), description="The answer, or what is wrong."),
)
POST_GRAPHQL = Endpoint(
    service="query",
    method="POST",
    path="/graphql",
    summary="Ask by GraphQL",
    description=_DESCRIPTION,
    tag="graphql",
    body=RequestBody(description="The query.", types=(JSON,), model=GraphQLRequest),
    answers=_ANSWERS,
    errors=(LimitExceeded, UnsupportedMedia, NotFound, Transient),
)
GET_GRAPHQL = Endpoint(
    service="query",
    method="GET",
    path="/graphql",
    summary="Ask by GraphQL, in the address",
    description=_DESCRIPTION,
    tag="graphql",
    parameters=GraphQLQuery,
    answers=_ANSWERS,
    errors=(LimitExceeded, NotFound, Transient),
)
ENDPOINTS = (POST_GRAPHQL, GET_GRAPHQL)
