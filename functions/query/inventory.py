"""What there is, and how it is: the summary of all GPUs with their status, and which one an id means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import Conflict, NotFound
from shared.records import FIRST_MS, FIRST_SEEN, LAST_MS, TEXT, TIMESTAMP, chunk
from shared.store.gpus import Gpus, Known, stale_before_ms, with_status
from shared.store.read import read_again

_MOST_CANDIDATES = 100


def _nothing() -> Known:
    """Make what is known of an empty store."""
    inventory = pa.schema({"uuid": TEXT, "timestamp": TIMESTAMP, FIRST_SEEN: pa.int64()})
    summary = pa.schema({"uuid": pa.string(), FIRST_MS: pa.int64(), LAST_MS: pa.int64()})
    return Known(inventory.empty_table(), summary.empty_table())


@dataclass(frozen=True)
class View:
    """All GPUs at one moment."""

    known: Known
    #: A GPU with no record since, epoch ms, is stale.
    stale_before_ms: int

    @cached_property
    def active(self) -> int:
        """How many GPUs are active. Of one version of the store, that tells which ones."""
        last = self.known.summary.column(LAST_MS)
        return int(pc.sum(pc.greater_equal(last, self.stale_before_ms)).as_py() or 0)

    @property
    def state(self) -> tuple[str, int]:
        """All that an answer about GPUs and their status depends on, besides the question."""
        return self.known.version, self.active

    @cached_property
    def gpus(self) -> pa.Table:
        """A row per GPU, ordered by uuid, with its `status`."""
        return with_status(self.known.summary, self.stale_before_ms, 0)


class Inventory:
    """The GPUs in the store as questions see them; safe to share between threads."""

    def __init__(self, gpus: Callable[[], Gpus], now_ms: Callable[[], int], stale_after_s: float) -> None:
        self._gpus = gpus
        self._now_ms = now_ms
        self._stale_after_s = stale_after_s
        self._nothing = _nothing()

    def view(self, as_of: str) -> View:
        """Look at all GPUs, their status against the clock (now) or the newest record (latest)."""
        known = read_again(self._gpus().read_known) or self._nothing
        now_ms = self._now_ms() if as_of == "now" else None
        return View(known, stale_before_ms(known.summary, now_ms, self._stale_after_s))

    def summary(self) -> pa.Table | None:
        """Summarise all GPUs, a row each, as `shared.store.inventory.summarise`; None where there is none."""
        return read_again(self._gpus().read)

    def with_status(self, as_of: str) -> pa.Table | None:
        """Summarise all GPUs with their `status`; None where there is none."""
        gpus = self.view(as_of).gpus
        return gpus if gpus.num_rows else None

    def reference_ms(self, as_of: str) -> int:
        """Tell what status is measured against, epoch ms: the clock (now) or the newest record (latest)."""
        summary = self.summary() if as_of == "latest" else None
        return self._now_ms() if summary is None else int(pc.max(summary.column(LAST_MS)).as_py())

    def status_at(self, summary: pa.Table, reference_ms: int) -> pa.Table:
        """Add the column `status` to a summary, measured against a time."""
        return with_status(summary, reference_ms, self._stale_after_s)

    def resolve(self, gpu: str, hostname: str | None) -> str:
        """Find the uuid that an id means: the uuid itself, or an index on a host.

        Raises:
            NotFound: No such GPU.
            Conflict: Several hosts have a GPU of that index; names them.
        """
        summary = self.summary()
        return resolve(self._nothing.summary if summary is None else summary, gpu, hostname)


def resolve(summary: pa.Table, gpu: str, hostname: str | None) -> str:
    """Find the uuid that an id means among the GPUs of a summary, as `Inventory.resolve` does."""
    found = _find(summary, "uuid", gpu, hostname) or _find(summary, "gpu_id", gpu, hostname)
    if not found:
        where = "" if hostname is None else f" on host {hostname!r}"
        raise NotFound(f"there is no GPU {gpu!r}{where}: /api/v1/gpus lists them")
    if len(found) > 1:
        raise Conflict(
            f"{len(found)} GPUs are {gpu!r}: say which by its uuid, or with hostname=",
            candidates=found[:_MOST_CANDIDATES],
        )
    return str(found[0]["uuid"])


def _find(summary: pa.Table, column: str, value: str, hostname: str | None) -> list[dict[str, Any]]:
    wanted = {column: value} | ({} if hostname is None else {"hostname": hostname})
    for name, text in wanted.items():
        if name not in summary.column_names:
            return []
        summary = summary.filter(pc.equal(chunk(summary, name), text))
    names = [name for name in ("uuid", "hostname") if name in summary.column_names]
    return [{"hostname": None, **row} for row in summary.select(names).to_pylist()]
