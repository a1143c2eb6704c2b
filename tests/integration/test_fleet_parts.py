"""Measured segment by segment, in order where they overlap: the same as of all records at once."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from functions.query.filters import match_labels
from functions.query.fleet.measures import Spans, Stats, Values
from functions.query.fleet.parts import Parts, Scope, as_text
from functions.query.fleet.series import Areas, Changes, Rises
from functions.query.fleet.spread import Bins, Members, Ranks
from functions.query.records import Window
from shared.errors import LimitExceeded
from shared.records import TIMESTAMP, concat, sort_resolve
from shared.store.read import within
from tests.integration.stored import Pipeline

UUIDS = [f"GPU-{n}" for n in range(6)]
MEASURES = (
    Spans(), Stats("power_draw"), Values("throttle_reasons"), Rises("energy_consumption_j"), Areas("power_draw"),
    Changes("xid_error"), Ranks("power_draw"), Members("pod"), Bins("pod", "gpu_utilization"),
)  # fmt: skip
SCOPES = [
    Scope(window=Window(), uuids=None),
    Scope(window=Window(start_ms=100_000, end_ms=300_000), uuids=None),
    Scope(window=Window(start_ms=100_000, end_ms=250_000), uuids=pa.array(["GPU-1", "GPU-4"])),
    Scope(window=Window(start_ms=50_000), uuids=None, labels=(("pod", "train-*"),)),
    Scope(window=Window(start_ms=9_000_000), uuids=None),
]


def some_rows(chance, uuids, seconds):
    """Rows of which each has some fields only, as exporters send them."""
    keys = [(u, s) for s in seconds for u in uuids if chance.random() < 0.8]

    def maybe(values):
        return [chance.choice(values) if chance.random() < 0.7 else None for _ in keys]

    table = {
        "uuid": pa.array([u for u, _ in keys], pa.string()).dictionary_encode(),
        "timestamp": pa.array([s * 1000 for _, s in keys], TIMESTAMP),
    }
    for name, values in {
        "power_draw": [100.0, 250.5, 300.0], "gpu_utilization": [0.0, 50.5, 100.0], "xid_error": [0.0, 79.0],
        "throttle_reasons": [0.0, 4.0], "energy_consumption_j": [1.0, 5.0, 20.0],
    }.items():  # fmt: skip
        table[name] = pa.array(maybe(values), pa.float64())
    table["pod"] = pa.array(maybe(["train-0", "train-1", "eval"]), pa.string()).dictionary_encode()
    return pa.table(table)


@pytest.fixture
def stored(etcd, keys, queue):
    """Uploads one after the other, some that overlap others or come twice, folded and merged in between."""
    chance = random.Random(7)
    pipeline = Pipeline(etcd, keys, queue)
    for number in range(12):
        table = some_rows(chance, UUIDS, range(number * 40, number * 40 + 40, 10))
        pipeline.upload(table)
        if number % 3 == 0:
            pipeline.upload(some_rows(chance, UUIDS[2:4], range(number * 40 - 20, number * 40 + 30, 10)))
        if number == 5:
            pipeline.upload(table)
        if number == 8:
            pipeline.compactor.compact(5)
    return pipeline


def at_once(store, scope, measure):
    table = sort_resolve(concat(list(store.read(store.index().segments))))
    table = within(table, scope.window.start_ms, scope.window.end_ms)
    if scope.uuids is not None:
        wanted = set(scope.uuids.to_pylist())
        table = table.filter(pa.array([u in wanted for u in table.column("uuid").to_pylist()], pa.bool_()))
    taken = measure.take(match_labels(table, dict(scope.labels)).combine_chunks())
    return as_text(measure.merge(taken if measure.by_gpu else taken.drop_columns(["uuid"])))


def rows(table):
    """Rows in an order of their own; sums of floats in whatever order they were added."""
    return sorted(
        (
            tuple(round(v, 6) if isinstance(v, float) else v for v in row.values())
            for row in table.to_pylist()
        ),
        key=str,
    )


@pytest.mark.parametrize(("small_rows", "together_rows"), [(0, 20), (0, 10**6), (30, 40), (10**6, 10**6)])
def test_measured_in_parts_is_as_measured_at_once(stored, small_rows, together_rows):
    parts = Parts(lambda: stored.store, small_rows=small_rows, together_rows=together_rows)
    assert len(stored.store.index().segments) > 3
    for scope in [*SCOPES, *SCOPES]:
        taken = parts.measure(MEASURES, scope)
        for measure in MEASURES:
            assert rows(taken[measure]) == rows(at_once(stored.store, scope, measure)), (scope, measure)


def test_a_record_in_two_halves_matches_by_the_label_of_one_and_has_the_value_of_the_other(etcd, keys, queue):
    pipeline = Pipeline(etcd, keys, queue)
    half = {"uuid": pa.array(["GPU-0"]).dictionary_encode(), "timestamp": pa.array([0], TIMESTAMP)}
    pipeline.upload(pa.table({**half, "pod": pa.array(["train-0"]).dictionary_encode()}))
    pipeline.upload(pa.table({**half, "power_draw": [100.0]}))
    scope = Scope(window=Window(), uuids=None, labels=(("pod", "train-0"),))
    for small_rows in (0, 10):
        taken = Parts(lambda: pipeline.store, small_rows=small_rows).measure([Stats("power_draw")], scope)
        assert taken[Stats("power_draw")].column("sum").to_pylist() == [100.0]


def test_what_takes_too_long_is_refused(stored):
    with pytest.raises(LimitExceeded, match="MAX_QUERY_TIME"):
        Parts(lambda: stored.store, time_s=-1).measure([], SCOPES[0])
