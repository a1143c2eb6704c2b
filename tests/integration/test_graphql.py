"""GraphQL over HTTP: the same answers as REST, and what is refused."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from tests.csvs import wide, wide_history, wide_row
from tests.functions import running

UUID = "GPU-graph-a-1"


@pytest.fixture(scope="module")
def filled(pipeline):
    assert pipeline.upload.upload(wide_history(2, 30, host="graph-a"))[0] == 200
    assert pipeline.upload.upload(wide([wide_row(host="graph-b", uuid="GPU-graph-b")]))[0] == 200
    assert pipeline.collect.call("POST", "/collect")[0] == 200
    return pipeline


def ask(pipeline, query, accept="application/json", **variables):
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Content-Type": "application/json", "Accept": accept}
    status, answer, _ = pipeline.query.call("POST", "/graphql", body=body, headers=headers)
    return status, json.loads(answer) if isinstance(answer, bytes) else answer


def data_of(pipeline, query, **variables):
    status, answer = ask(pipeline, query, **variables)
    assert status == 200
    assert "errors" not in answer, answer
    return answer["data"]


def rest(pipeline, path):
    status, body = pipeline.query.get(path)
    assert status == 200
    return body["data"]


def test_gpus_and_hosts_are_those_of_rest(filled):
    query = "{ gpus { next data { uuid hostname status last_seen } } hosts { hostname gpu_count } }"
    data = data_of(filled, query)
    page = data.pop("gpus")
    assert page["next"] is None
    data["gpus"] = page["data"]
    for name, members in (
        ("gpus", ("uuid", "hostname", "status", "last_seen")),
        ("hosts", ("hostname", "gpu_count")),
    ):
        assert data[name] == [{m: x[m] for m in members} for x in rest(filled, f"/api/v1/{name}")]


def test_records_below_a_gpu_are_those_of_rest(filled):
    window = 'start_time: "2024-01-15T10:00:05Z", end_time: "2024-01-15T10:00:15Z"'
    query = "query($u: String!) { gpu(gpu: $u) { uuid telemetry(WINDOW, limit: 4) { count data { ...R } } } }"
    query = (
        query.replace("WINDOW", window)
        + " fragment R on Record { timestamp power_draw gpu_utilization sm_active }"
    )
    page = data_of(filled, query, u=UUID)["gpu"]["telemetry"]
    path = (
        f"/api/v1/gpus/{UUID}/telemetry?start_time=2024-01-15T10:00:05Z&end_time=2024-01-15T10:00:15Z&limit=4"
    )
    expected = rest(filled, path)
    assert page["count"] == len(expected) == 4
    for record, wanted in zip(page["data"], expected, strict=True):
        assert record == {
            n: wanted.get(n) for n in ("timestamp", "power_draw", "gpu_utilization", "sm_active")
        }


def test_gpus_go_on_from_their_cursor(filled):
    seen, cursor = [], None
    for _ in range(3):
        page = data_of(
            filled, "query($c: String) { gpus(limit: 1, cursor: $c) { next data { uuid } } }", c=cursor
        )
        seen += [gpu["uuid"] for gpu in page["gpus"]["data"]]
        cursor = page["gpus"]["next"]
    assert cursor is None
    assert seen == [gpu["uuid"] for gpu in rest(filled, "/api/v1/gpus")]


def test_telemetry_goes_on_from_its_cursor(filled):
    query = 'query($c: String) { telemetry(hostname: "graph-a", limit: 25, cursor: $c) { next data { uuid timestamp } } }'
    seen, cursor = [], None
    for _ in range(3):
        page = data_of(filled, query, c=cursor)["telemetry"]
        seen += [(r["uuid"], r["timestamp"]) for r in page["data"]]
        cursor = page["next"]
    assert cursor is None
    assert len(seen) == len(set(seen)) == 60
    assert seen == sorted(seen)


def test_a_cursor_of_another_window_is_refused_and_one_of_rest_goes_on(filled):
    query = (
        "query($c: String, $t: String) { telemetry(start_time: $t, limit: 25, cursor: $c) { count next } }"
    )
    begin = "2024-01-15T10:00:05Z"
    page = data_of(filled, query, t=begin)["telemetry"]
    assert data_of(filled, query, t=begin, c=page["next"])["telemetry"]["count"] == 25
    answer = ask(filled, query, t="2024-01-15T10:00:10Z", c=page["next"])[1]
    assert "another question" in answer["errors"][0]["message"]
    body = filled.query.get(f"/api/v1/telemetry?start_time={begin}&limit=25")[1]
    assert body["next"] == page["next"]


def test_the_fleet_is_asked_below_one_field(filled):
    query = '{ fleet { summary(start_time: "2024-01-15T10:00:00Z", end_time: "2024-01-15T11:00:00Z") { __typename } } }'
    assert data_of(filled, query)["fleet"]["summary"]["__typename"]


def test_a_query_in_the_address(filled):
    status, answer = filled.query.get("/graphql?" + urlencode({"query": "{ hosts { hostname } }"}))
    assert status == 200
    assert {"hostname": "graph-a"} in answer["data"]["hosts"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("{ gpus { uuid ", "Syntax Error"),
        ("{ gpus { data { colour } } }", "Cannot query field 'colour'"),
        ('{ gpus(status: "sleepy") { count } }', "status='sleepy': expected"),
        ('{ telemetry(limit: "5") { count } }', "expected a whole number"),
        ('{ gpu(gpu: "GPU-none") { uuid } }', "there is no GPU 'GPU-none'"),
    ],
)
def test_mistakes_are_named(filled, query, said):
    status, answer = ask(filled, query)
    assert status == 200
    assert said in answer["errors"][0]["message"]


def test_a_query_that_is_not_valid_is_a_400_to_who_knows_its_own_type(filled):
    status, answer = ask(filled, "{ colour }", accept="application/graphql-response+json")
    assert (status, "data" in answer) == (400, False)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "{ gpus(limit: 1000) { data { telemetry(limit: 1000) { count } } } }",
            "give its lists a smaller limit",
        ),
        (
            "query($n: Long = 1000) { gpus(limit: 101) { data { telemetry(limit: $n) { count } } } }",
            "give its lists",
        ),
        ("{ fleet {" + " ".join(f"a{n}: summary {{ __typename }}" for n in range(21)) + "} }", "smaller"),
        (
            "{ fleet { ...F } } fragment F on Fleet {"
            + " ".join(f"a{n}: summary {{ __typename }}" for n in range(21))
            + "}",
            "smaller",
        ),
        ("{ gpus(limit: " + "9" * 5000 + ") { count } }", "smaller"),
        ("query($n: Long = " + "9" * 5000 + ") { gpus(limit: $n) { count } }", "smaller"),
        (
            "{ gpus {" + " ".join(f"d{n}: data {{ ...F }}" for n in range(60)) + "} }"
            " fragment F on Gpu {" + " ".join(f"a{n}: uuid" for n in range(200)) + "}",
            "smaller limit",
        ),
        ("{ a" + "{ a" * 9 + "}" * 10, "levels deep"),
        ("{ gpus { ...A } } fragment A on Gpu { ...A }", "levels deep"),
    ],
)
def test_what_costs_too_much_is_refused(filled, query, said):
    status, answer = ask(filled, query)
    assert status == 413
    assert said in answer["error"]["message"]


def test_fragments_that_spread_each_other_often_are_measured_at_once(filled):
    spread = " ".join(f"fragment F{n} on Query {{ {f'...F{n + 1} ' * 120} }}" for n in range(6))
    assert data_of(filled, "{ ...F0 } " + spread + " fragment F6 on Query { __typename }") == {
        "__typename": "Query"
    }


@pytest.mark.parametrize("value", [True, "5", 2.5, -5, 0, 10**18])
def test_a_variable_that_is_no_limit_is_a_mistake_of_the_query(filled, value):
    query = "query($n: Long) { hosts { gpus(limit: 1) { count } } telemetry(limit: $n) { count } }"
    status, answer = ask(filled, query, n=value)
    assert status in (200, 413)
    if status == 200:
        assert "expected a whole number" in answer["errors"][0]["message"]


def test_a_limit_that_is_null_is_the_one_that_is_counted(filled):
    for query in (
        "{ telemetry(limit: null) { count } }",
        "query($n: Long) { telemetry(limit: $n) { count } }",
    ):
        assert data_of(filled, query, n=None)["telemetry"]["count"] > 0


def test_a_body_that_is_no_query(filled):
    for body, kind, status in (
        (b"{", "application/json", 400),
        (b'{"query": 5}', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{ gpus }", "application/graphql", 415),
        (b'{"query": "' + b"x" * 70_000 + b'"}', "application/json", 413),
    ):
        got, answer, _ = filled.query.call("POST", "/graphql", body=body, headers={"Content-Type": kind})
        assert (got, answer["success"]) == (status, False), answer


def test_an_outage_is_a_503_and_no_answer_with_holes(tmp_path):
    with running("query", tmp_path, etcd="127.0.0.1:9", prefix="/none") as query:
        body = json.dumps({"query": "{ gpus { count } hosts { hostname } }"}).encode()
        status, answer, _ = query.call(
            "POST", "/graphql", body=body, headers={"Content-Type": "application/json"}
        )
        assert (status, answer["error"]["code"]) == (503, "unavailable")


def test_it_can_be_turned_off(tmp_path, filled):
    with running("query", tmp_path, etcd=filled.etcd, prefix=filled.prefix, ENABLE_GRAPHQL="false") as query:
        assert query.get("/graphql?query=x")[0] == 404
