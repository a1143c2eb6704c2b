"""Records are read out of an answer as it arrives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.ports import find_free_port
from shared.client import Client, iter_records
from shared.errors import BadConfig, Transient

RECORDS = st.lists(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())))


@given(RECORDS, st.integers(min_value=1, max_value=40), st.booleans())
def test_records_are_the_same_however_the_answer_is_cut(records, size, spaces):
    separators = None if spaces else (",", ":")
    envelope = {"success": True, "data": records, "count": len(records)}
    answer = json.dumps(envelope, ensure_ascii=False, separators=separators).encode("utf-8", "surrogatepass")
    parts = (answer[i : i + size] for i in range(0, len(answer), size))
    assert list(iter_records(parts)) == records


def test_an_answer_that_breaks_off_is_no_answer():
    records = iter_records(iter([b'{"success":true,"data":[{"a":1},', b'{"a":']))
    assert next(records) == {"a": 1}
    with pytest.raises(Transient, match="broke off"):
        next(records)


def test_an_address_needs_a_scheme():
    with pytest.raises(BadConfig, match="expected http://host:port"):
        Client("127.0.0.1:8080")


def test_nobody_there_is_said_in_one_sentence():
    with pytest.raises(Transient, match="is `gpu-telemetry up` running"):
        Client(f"http://127.0.0.1:{find_free_port()}").read("/health")
