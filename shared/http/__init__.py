"""The edge of a function: routing, validation, envelopes, errors as statuses, health, start-up."""

from shared.http.answers import (
    data_response,
    error_response,
    json_response,
    report_response,
    stream_response,
)
from shared.http.body import read_body
from shared.http.counts import Counts
from shared.http.route import Route, Routes, parse_parameters, validate_parameters
from shared.http.service import Service
from shared.http.startup import EtcdHolder, start

__all__ = [
    "Counts",
    "EtcdHolder",
    "Route",
    "Routes",
    "Service",
    "data_response",
    "error_response",
    "json_response",
    "parse_parameters",
    "read_body",
    "report_response",
    "start",
    "stream_response",
    "validate_parameters",
]
