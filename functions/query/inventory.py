"""What there is, and how it is: the summary of all GPUs with their status, and which one an id means."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import Conflict, NotFound
from shared.store.gpus import Gpus, with_status
from shared.store.read import read_again


class Inventory:
    """The GPUs in the store as questions see them; safe to share between threads."""

    def __init__(self, gpus: Callable[[], Gpus], now_ms: Callable[[], int], stale_after_s: float) -> None:
        self._gpus = gpus
        self._now_ms = now_ms
        self._stale_after_s = stale_after_s

    def summary(self) -> pa.Table | None:
        """Summarise all GPUs, a row each, as `shared.store.inventory.summarise`; None where there is none."""
        return read_again(self._gpus().read)

    def with_status(self, as_of: str) -> pa.Table | None:
        """Summarise all GPUs with their `status`, against the clock (now) or the newest record (latest)."""
        summary = self.summary()
        if summary is None:
            return None
        return with_status(summary, self._now_ms() if as_of == "now" else None, self._stale_after_s)

    def reference_ms(self, as_of: str) -> int:
        """Tell what status is measured against, epoch ms: the clock (now) or the newest record (latest)."""
        summary = self.summary() if as_of == "latest" else None
        return self._now_ms() if summary is None else int(pc.max(summary.column("last_ms")).as_py())

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
        rows = [] if summary is None else summary.to_pylist()
        found = [r for r in rows if r["uuid"] == gpu and hostname in (None, r.get("hostname"))]
        if not found:
            found = [r for r in rows if r.get("gpu_id") == gpu and hostname in (None, r.get("hostname"))]
        if not found:
            where = "" if hostname is None else f" on host {hostname!r}"
            raise NotFound(f"there is no GPU {gpu!r}{where}: /api/v1/gpus lists them")
        if len(found) > 1:
            candidates = [{"uuid": r["uuid"], "hostname": r.get("hostname")} for r in found]
            raise Conflict(
                f"{len(found)} GPUs are {gpu!r}: say which by its uuid, or with hostname=",
                candidates=candidates[:100],
            )
        return str(found[0]["uuid"])
