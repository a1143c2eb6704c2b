"""Which GPU a row is of: columns of uuids made from what the file has."""

from __future__ import annotations

import uuid as uuidlib

import pyarrow as pa
import pyarrow.compute as pc

from shared.records import TEXT

#: The namespace of synthetic ids, drawn once: the same host and index give the same id for ever.
_NAMESPACE = uuidlib.UUID("6b1f0f6e-3f5c-4a53-9d0e-51c7f1b2a9d4")
_SEPARATOR = "\x1f"


def texts(column: pa.Array) -> pa.Array:
    """Spell a dictionary column out."""
    return column.cast(pa.string())


def synthetic_uuids(hostname: pa.Array, gpu_id: pa.Array, cluster: str) -> pa.Array:
    """Make a stable id of cluster, host name and index; null where one is missing."""
    pairs = pc.binary_join_element_wise(texts(hostname), texts(gpu_id), _SEPARATOR).dictionary_encode()
    made = [
        f"synthetic-{uuidlib.uuid5(_NAMESPACE, cluster + _SEPARATOR + pair)}"
        for pair in pairs.dictionary.to_pylist()
    ]
    return pa.DictionaryArray.from_arrays(pairs.indices.cast(pa.int32()), pa.array(made, pa.string()))


def with_instances(uuid: pa.Array, instance: pa.Array) -> pa.Array:
    """Make `uuid:gi-N` of a MIG instance's rows; the others keep the board's uuid."""
    plain, number = texts(uuid), texts(instance)
    joined = pc.binary_join_element_wise(plain, number, ":gi-")
    done = pc.or_kleene(pc.is_null(number), pc.match_substring(plain, ":gi-"))
    return pc.if_else(done, plain, joined).dictionary_encode().cast(TEXT)


def map_values(column: pa.DictionaryArray, values: pa.Array) -> pa.Array:
    """Replace the dictionary of a column by another, which may repeat itself or hold nulls."""
    return values.take(column.indices).dictionary_encode().cast(TEXT)


def strip_ports(column: pa.DictionaryArray) -> pa.Array:
    """Make host names of Prometheus instances: `node-1:9400` is node-1."""
    return map_values(column, pc.replace_substring_regex(column.dictionary, r":[0-9]{1,5}$", ""))


def extract_label(raw: pa.DictionaryArray, name: str) -> pa.Array:
    """Take one label out of Prometheus labels (`a="x",b="y"`); null where it is missing or empty."""
    found = pc.extract_regex(raw.dictionary, rf'(?:^|[,{{\s]){name}="(?P<v>[^"]*)"')
    values = pc.struct_field(found, "v")
    values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    return map_values(raw, values)
