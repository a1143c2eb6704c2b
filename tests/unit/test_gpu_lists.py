"""Lists of GPUs: their order, their pages and their JSON, held against doing it one by one."""

from __future__ import annotations

import json

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.query.gpu_pages import cut_page, order_gpus
from functions.query.objects import render_objects

TEXT = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ü", '"', "\\", "x\n"]), st.text(max_size=5))
INDEX = st.one_of(st.none(), st.sampled_from(["0", "2", "10", "02", "x", "9" * 5000]))
GPUS = st.lists(
    st.fixed_dictionaries({"uuid": st.text(min_size=1, max_size=3), "hostname": TEXT, "gpu_id": INDEX}),
    max_size=12,
    unique_by=lambda g: g["uuid"],
)
TYPES = pa.schema([(name, pa.string()) for name in ("uuid", "hostname", "gpu_id")])


def key(gpu):
    index = gpu["gpu_id"] or ""
    number = int(index) if index.isascii() and index.isdigit() and len(index) < 10 else 10**9
    return (gpu["hostname"] or "", number, index, gpu["uuid"])


def table_of(gpus):
    return pa.Table.from_pylist(sorted(gpus, key=lambda g: g["uuid"]), TYPES)


@settings(max_examples=200, deadline=None)
@given(GPUS)
def test_gpus_are_ordered_by_host_index_and_uuid(gpus):
    assert order_gpus(table_of(gpus)).to_pylist() == sorted(gpus, key=key)


@settings(max_examples=200, deadline=None)
@given(GPUS, GPUS, st.integers(1, 4))
def test_pages_are_not_moved_by_what_comes_and_goes(gpus, others, limit):
    """After each page other GPUs are there: those that stay all come, once."""
    stay = {g["uuid"] for g in gpus}
    more = [g for g in others if g["uuid"] not in stay]
    found, cursor = [], None
    for turn in range(len(gpus) + len(more) + 1):
        there = order_gpus(table_of(gpus if turn % 2 else gpus + more))
        page = cut_page(there, "question", limit, cursor)
        found += page.gpus.to_pylist()
        cursor = page.next
        if cursor is None:
            break
    assert cursor is None
    assert [g for g in found if g["uuid"] in stay] == sorted(gpus, key=key)
    assert len({g["uuid"] for g in found}) == len(found)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=10), st.booleans())
def test_columns_are_the_json_of_their_rows(rows, encoded):
    first, second = (pa.array([r[i] for r in rows], pa.string()) for i in (0, 1))
    columns = {"a": first.dictionary_encode() if encoded else first, "b": None, "c": second}
    wanted = [{"a": a, "b": None, "c": c} for a, c in rows]
    assert json.loads(b"[%s]" % render_objects(columns, len(rows))) == wanted
