"""A fleet question once its window and its GPUs are known: what every answer begins with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from functions.query.filters import match_labels, select_gpus
from functions.query.fleet.conditions import boards, count_boards, look_up
from functions.query.fleet.measures import RUNNING, Measure, Spans
from functions.query.fleet.parts import Parts, Scope, Taken
from functions.query.fleet.window import FleetWindow
from functions.query.records import Window
from shared.api.fleet import FleetWanted
from shared.api.records import FILTERED_LABELS
from shared.records import FIRST_MS, LAST_MS, chunk
from shared.store.gpus import with_status

#: The labels that say which GPU it is, by their names in an answer.
_NAMES = {"gpu_id": "gpu_id", "hostname": "hostname", "model": "modelname"}


@dataclass(frozen=True)
class Asked:
    """What is asked, over which window, of a store that holds some GPUs."""

    wanted: FleetWanted
    window: FleetWindow
    #: All GPUs in the store, a row each.
    summary: pa.Table
    parts: Parts
    stale_after_s: float

    @cached_property
    def _everybody(self) -> pa.Table:
        now_ms = self.window.now_ms if self.wanted.as_of == "now" else None
        return with_status(self.summary, now_ms, self.stale_after_s)

    @cached_property
    def known(self) -> pa.Table:
        """The GPUs that all the filters match by their newest labels, whether they have records or not."""
        return select_gpus(self._everybody, self.wanted)

    def measure(self, measures: Collection[Measure]) -> Taken:
        """Measure the records in the window: of the GPUs that are wanted, and of the pod and namespace."""
        window = Window(start_ms=self.window.start_ms, end_ms=self.window.end_ms)
        labels = tuple((n, v) for n in RUNNING if (v := getattr(self.wanted, n)) is not None)
        wanted = self.wanted.model_copy(update=dict.fromkeys(RUNNING))
        names = [*FILTERED_LABELS, "status"]
        if all(getattr(wanted, name) is None for name in names):
            uuids = None
        else:
            uuids = chunk(select_gpus(self._everybody, wanted), "uuid")
        return self.parts.measure(measures, Scope(window=window, uuids=uuids, labels=labels))

    def begin(self, taken: Taken, fields: Mapping[str, Measure]) -> dict[str, Any]:
        """Begin an answer: its window, how many GPUs were seen, and which fields nothing was taken of."""
        return {
            "window": self.window.render(),
            "gpus_seen": count_boards(chunk(taken[Spans()], "uuid")),
            "not_reported": [f for f, measure in fields.items() if not taken[measure].num_rows],
        }

    def last_seen(self, taken: Taken) -> pa.Table:
        """List boards and when anything of them was seen last: board, last_ms."""
        spans = taken[Spans()]
        rows = pa.table({"board": boards(chunk(spans, "uuid")), "last_ms": chunk(spans, "last_ms")})
        grouped = rows.group_by("board", use_threads=False).aggregate([("last_ms", "max")])
        return grouped.rename_columns(["board", "last_ms"])

    def stale_before_ms(self, newest_ms: int) -> int:
        """Return the time before which a last record makes a GPU stale."""
        reference = self.window.until_ms() if self.wanted.as_of == "now" else newest_ms
        return int(reference - self.stale_after_s * 1000)

    def name_gpus(self, uuids: Sequence[str], taken: Taken) -> list[dict[str, Any]]:
        """Say which GPUs these are."""
        wanted = pa.array(uuids, pa.string())
        names = self._everybody.column_names
        columns: dict[str, Any] = {"uuid": wanted}
        for name, label in _NAMES.items():
            missing = pa.nulls(len(wanted), pa.string())
            columns[name] = look_up(wanted, self._everybody, label) if label in names else missing
        for name in RUNNING:
            columns[name] = look_up(wanted, taken[Spans()], name)
        return list(pa.table(columns).to_pylist())

    def is_of_hosts(self) -> bool:
        """Tell whether whole hosts are asked for: then what a setting says of hosts can be compared."""
        others = {*FILTERED_LABELS, "status"} - {"hostname"}
        return all(getattr(self.wanted, name) is None for name in others)

    def select_hosts(self, names: Iterable[str]) -> list[str]:
        """Keep the names of hosts that the filter matches."""
        table = pa.table({"hostname": pa.array(list(names), pa.string())})
        pattern = self.wanted.hostname
        found = table if pattern is None else match_labels(table, {"hostname": pattern})
        return list(found.column("hostname").to_pylist())

    def first_seen(self) -> dict[str, int]:
        """Tell when each GPU was first heard of, epoch ms."""
        names = ("uuid", FIRST_MS)
        return dict(zip(*(self._everybody.column(n).to_pylist() for n in names), strict=True))

    def known_rows(self) -> list[dict[str, Any]]:
        """List the GPUs that are known, with the board each is on."""
        names = [n for n in ("hostname", "gpu_id", "modelname") if n in self.known.column_names]
        table = self.known.select(["uuid", FIRST_MS, LAST_MS, *names])
        table = table.rename_columns(["uuid", "first_ms", "last_ms", *names])
        return list(table.append_column("board", boards(chunk(table, "uuid"))).to_pylist())


def unreported(answer: Mapping[str, Any], fields: Collection[str]) -> bool:
    """Tell whether none of some fields was reported."""
    return all(field in answer["not_reported"] for field in fields)
