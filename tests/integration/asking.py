"""Records stored and asked for over HTTP, for tests."""

from __future__ import annotations


def store(pipeline, data):
    status, body = pipeline.upload.upload(data)
    assert status == 200, body
    assert body["data"]["warnings"] == []
    assert pipeline.collect.call("POST", "/collect")[0] == 200
    return body["data"]


def ask(function, path):
    """GET records; of fields that are not fixed, and null in all records of a chunk, nothing is said there."""
    status, body = function.get(path)
    assert status == 200, body
    assert body["count"] == len(body["data"])
    return {**body, "data": [Record(r) for r in body["data"]]}


class Record(dict):
    """A record that equals another one with the same values, whether or not its nulls are written out."""

    def __eq__(self, other):
        return {k: v for k, v in self.items() if v is not None} == {
            k: v for k, v in other.items() if v is not None
        }

    def __hash__(self):
        return hash((self["uuid"], self["timestamp"]))


def pages(function, path, limit):
    """Follow `next` to its end; the records of all pages."""
    found, cursor = [], ""
    while True:
        body = ask(function, f"{path}limit={limit}{cursor}")
        assert len(body["data"]) <= limit
        found += body["data"]
        if body["next"] is None:
            return found
        cursor = f"&cursor={body['next']}"


def fetch(function, path, **headers):
    status, body, answered = function.call("GET", path, headers=headers)
    assert status == 200, body
    return body, answered
