"""The inventory: what folded segments say of their GPUs, so that nobody opens them to ask which there are.

The inventory of a segment is a table of records: of each GPU those few that the newest value of each of its
fields is taken from (one, where a record has all), with the GPU's first time, epoch ms, beside them. It
comes and goes in the transactions that bring and take the segment: what is stored and what is said of it
cannot part. Inventories merge in any order and grouping (docs/adr/0007).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shared.records import (
    FIRST_MS,
    FIRST_SEEN,
    KEY,
    LAST_MS,
    VERSION,
    chunk,
    concat,
    last_by_key,
    newest_of_each,
)
from shared.store.segment import decode, encode


def take_inventory(table: pa.Table) -> pa.Table:
    """Take the inventory of records that `collapse` made."""
    return _merge(table.append_column(FIRST_SEEN, chunk(table, "timestamp").cast(pa.int64())))


def merge_inventories(tables: Sequence[pa.Table]) -> pa.Table:
    """Merge inventories into one."""
    return _merge(concat(tables))


def _merge(table: pa.Table) -> pa.Table:
    uuids = chunk(table, "uuid").indices
    first = pa.table({"uuid": uuids, FIRST_SEEN: chunk(table, FIRST_SEEN)})
    first = first.group_by("uuid", use_threads=False).aggregate([(FIRST_SEEN, "min")])
    newest = newest_of_each(table.drop_columns([FIRST_SEEN]))
    places = pc.index_in(chunk(newest, "uuid").indices, chunk(first, "uuid"))
    return newest.append_column(FIRST_SEEN, chunk(first, f"{FIRST_SEEN}_min").take(places))


def encode_inventory(table: pa.Table) -> bytes:
    """Write an inventory as bytes, as a segment's."""
    return encode(table)


def decode_inventory(payload: bytes) -> pa.Table:
    """Read an inventory.

    Raises:
        Corrupt: It is none.
    """
    return decode(payload)


def summarise(inventory: pa.Table) -> pa.Table:
    """Make one row per GPU, in order of uuid: uuid, FIRST_MS, LAST_MS, and the newest value of each field."""
    uuids = chunk(inventory, "uuid")
    fields: dict[str, Any] = {
        name: chunk(inventory, name)
        for name in inventory.column_names
        if name not in (*KEY, *VERSION, FIRST_SEEN)
    }
    columns = {
        "uuid": uuids,
        FIRST_MS: chunk(inventory, FIRST_SEEN),
        LAST_MS: chunk(inventory, "timestamp").cast(pa.int64()),
        **fields,
    }
    table = last_by_key(columns, uuids.indices)
    return table.cast(
        pa.schema((f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in table.schema)
    )
