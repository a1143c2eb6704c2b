"""Which fields an answer has: those that are asked for by any of their names, or those that there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache

import pyarrow as pa

from shared.errors import InvalidInput, Transient
from shared.fields import FIELDS, FIXED_METRICS, find_source
from shared.records import FIRST_MS, KEY, LABELS, LAST_MS, STATUS, VERSION

#: The columns of every record, after its time.
KEY_COLUMNS = ("gpu_id", "uuid", "hostname")
#: Fields that can be asked for, whether or not a record has them.
_ALWAYS_KNOWN = frozenset({*KEY, *LABELS, *FIELDS})
_NOT_FIELDS = frozenset({*KEY, *VERSION})
#: Columns that a summary has and no record.
_OF_SUMMARY = frozenset({FIRST_MS, LAST_MS, STATUS})


def choose_columns(asked: Sequence[str], stored: Callable[[], Collection[str]]) -> tuple[str, ...]:
    """List the columns, after the time, of an answer with certain fields: the key's, then those in order.

    Args:
        asked: Names of fields: ours, or what they are called in files, such as DCGM_FI_DEV_GPU_UTIL.
        stored: Lists the fields that some record has; asked where a name is not in the catalogue.

    Raises:
        InvalidInput: A field is unknown; says which one is nearest.
    """
    names = [name for name in (resolve_field(a, stored) for a in asked) if name != "timestamp"]
    return tuple(dict.fromkeys([*KEY_COLUMNS, *names]))


def resolve_field(asked: str, stored: Callable[[], Collection[str]], parameter: str = "fields") -> str:
    """Find the column that a field stands for, as `choose_columns` does; `parameter` is where it was named.

    Raises:
        InvalidInput: There is none; says which one is nearest.
    """
    name = asked.lower()
    if name in _ALWAYS_KNOWN:
        return name
    there = stored()
    if name in there:
        return name
    source = find_source(name)
    if source is not None:
        return source.field.name
    label = _labels_by_head().get(name)
    if label is not None:
        return label
    import difflib  # noqa: PLC0415

    near = difflib.get_close_matches(name, sorted({*_ALWAYS_KNOWN, *there}), 1, 0.0)
    raise InvalidInput(
        f"there is no field {asked[:100]!r}: the nearest is {near[0]!r}; /api/v1/fields lists them",
        parameter=parameter,
        nearest=near[0],
    )


@cache
def _labels_by_head() -> dict[str, str]:
    from shared.ingest.dialect import HEADS  # noqa: PLC0415  (few name a label as files do)

    return {head: column for column, heads in HEADS.items() for head in heads}


class ColumnCame(Transient):
    """A field that was not there before was stored while this was answered; ask again."""


def iter_complete(parts: Iterable[pa.Table], columns: Collection[str]) -> Iterator[pa.Table]:
    """Yield chunks whose records lose nothing where only some columns are written.

    Raises:
        ColumnCame: A value stands in another column: it was stored after the columns were listed.
    """
    for part in parts:
        others = [n for n in part.column_names if n not in columns and n not in _NOT_FIELDS]
        if any(part.column(name).null_count < part.num_rows for name in others):
            raise ColumnCame
        yield part


def stored_columns(summary: pa.Table | None) -> tuple[str, ...]:
    """List the columns, after the time, that records of the GPUs of a summary can have, in their order.

    A summary has the newest value of every field that was ever reported: what it lacks, no record has.
    """
    there = set()
    if summary is not None:
        there = {n for n in summary.column_names if summary.column(n).null_count < summary.num_rows}
    there -= {*_OF_SUMMARY, *KEY_COLUMNS, *FIXED_METRICS}
    labels = [name for name in LABELS if name in there]
    return (*KEY_COLUMNS, *FIXED_METRICS, *sorted(there - set(LABELS)), *labels)
