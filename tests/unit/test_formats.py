"""Records as CSV that upload reads again, and as Parquet in constant memory."""

from __future__ import annotations

import io
import itertools
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.query.formats import wide_csv
from functions.query.formats.parquet import GROUP_ROWS, write
from shared.fields import NULL_WORDS, Field, Source, own_source
from shared.ingest.blocks import Block
from shared.ingest.dialect import HEADS, LONG_HEADS, parse_header
from shared.ingest.reader import Reader
from shared.records import RESERVED, TIMESTAMP

UNKNOWN = {"unit": "", "minimum": -math.inf, "maximum": math.inf, "description": "not catalogued"}
#: Names that an uploaded metric can have although a head of that name means something else.
TAKEN = sorted(
    head
    for head in (*itertools.chain(*HEADS.values(), *LONG_HEADS.values()), "power_usage", "tmptr")
    if head not in RESERVED and own_source(head) == Source(Field(name=head, **UNKNOWN))
)


def read_again(data):
    head, _, rest = data.decode().partition("\n")
    layout = parse_header(head)
    assert layout.warnings == []
    reader = Reader(layout, "default")
    block = Block(rest.encode(), 2, rest.count("\n"), 0)
    reader.prepare(block)
    return reader.parse(block)


@pytest.mark.parametrize("name", TAKEN)
def test_a_metric_that_is_called_like_something_else_comes_back_as_itself(name):
    table = pa.table({
        "uuid": pa.array(["GPU-a"]).dictionary_encode(),
        "timestamp": pa.array([1], TIMESTAMP),
        "temperature": [20.0],
        name: [1.5],
    })  # fmt: skip
    data = b"".join(wide_csv.write([table], ("uuid", "temperature", name), None))
    found, report = read_again(data)
    assert (report.rejected, report.nulled) == (0, 0)
    assert (
        found.select(["timestamp", "temperature", name]).to_pylist()
        == table.select(["timestamp", "temperature", name]).to_pylist()
    )


#: What says that there is nothing, to whoever reads it.
_NULLS = {word.lower() for word in NULL_WORDS}
LABEL = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=[" "]),
    min_size=1,
    max_size=9,
).map(str.strip)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4_000_000_000_000),
            LABEL.filter(lambda t: t and not t.isdecimal() and t.lower() not in _NULLS),
            st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
            st.none() | st.floats(-1e300, 1e300).filter(lambda x: abs(x) < 1e9),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_csv_is_read_again_as_the_same_records(rows):
    rows = [r for r in rows if r[2] is None or r[2] < 1e9]
    if not rows:
        return
    columns = list(zip(*rows, strict=True))
    table = pa.table({
        "uuid": pa.array([f"GPU-{i}" for i in range(len(rows))]).dictionary_encode(),
        "timestamp": pa.array(columns[0], TIMESTAMP),
        "pod": pa.array(columns[1], pa.string()).dictionary_encode(),
        "power_draw": pa.array(columns[2], pa.float64()),
        "own": pa.array(columns[3], pa.float64()),
    })  # fmt: skip
    names = table.column_names
    data = b"".join(wide_csv.write([table], [n for n in names if n != "timestamp"], None))
    found, report = read_again(data)
    assert (report.rejected, report.nulled) == (0, 0)
    for name in ("own", "power_draw"):
        if found is not None and name not in found.column_names:
            assert table.column(name).null_count == len(rows)
            names = [n for n in names if n != name]
    assert found.select(names).to_pylist() == table.select(names).to_pylist()


def chunk_of(first, rows, **more):
    return pa.table({
        "timestamp": pa.array(range(first, first + rows), TIMESTAMP),
        "uuid": pa.array(["GPU-a"] * rows).dictionary_encode(),
        "power_draw": pa.array([float(i) for i in range(rows)]),
        **more,
    })  # fmt: skip


def test_parquet_comes_row_group_by_row_group():
    rows, taken = 20_000, []

    def parts():
        for number in range(12):
            taken.append(number)
            yield chunk_of(number * rows, rows)

    names = ("uuid", "power_draw", "pod", "own")
    pieces, said = [], []
    for piece in write(parts(), names):
        pieces.append(piece)
        said.append(len(taken))
    assert said == [4, 8, 12, 12]
    file = pq.ParquetFile(io.BytesIO(b"".join(pieces)))
    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [80_000] * 3
    assert GROUP_ROWS <= 80_000
    assert file.schema_arrow == pa.schema([
        ("timestamp", TIMESTAMP), ("uuid", pa.string()), ("power_draw", pa.float64()), ("pod", pa.string()),
        ("own", pa.float64()),
    ])  # fmt: skip
    table = file.read()
    assert table.num_rows == 12 * rows
    assert table.column("own").null_count == table.num_rows
    assert table.column("timestamp").to_pylist() == sorted(table.column("timestamp").to_pylist())


def test_parquet_that_broke_off_is_no_file():
    def parts():
        yield chunk_of(0, GROUP_ROWS)
        raise RuntimeError("gone")

    pieces = []
    with pytest.raises(RuntimeError, match="gone"):
        pieces.extend(write(parts(), ("uuid", "power_draw")))
    assert pieces
    with pytest.raises(pa.ArrowInvalid):
        pq.ParquetFile(io.BytesIO(b"".join(pieces)))


def test_chunks_of_other_columns_are_one_file():
    own = {"own": pa.array([1.0])}
    pod = {"pod": pa.array(["p"]).dictionary_encode()}
    data = b"".join(write([chunk_of(0, 1, **own), chunk_of(1, 1, **pod)], ("uuid", "own", "pod")))
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [(r["own"], r["pod"]) for r in rows] == [(1.0, None), (None, "p")]
