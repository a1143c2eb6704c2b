"""etcd by its own HTTP: its /metrics, and the gateway to its maintenance."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

from benchmarks.client import Http
from benchmarks.processes import BenchmarkFailure


@dataclass(frozen=True)
class Stored:
    """How large etcd's database is: what of it is in use, and the file."""

    in_use: int
    file: int


class Etcd:
    """One member of etcd."""

    def __init__(self, port: int) -> None:
        self._http = Http(port)

    def read_stored(self) -> Stored:
        """Read how large the database is."""
        metrics = self._http.get_bytes("/metrics").decode()
        return Stored(
            in_use=parse_metric(metrics, "mvcc_db_total_size_in_use_in_bytes"),
            file=parse_metric(metrics, "mvcc_db_total_size_in_bytes"),
        )

    def compact(self) -> None:
        """Forget all history, and wait until its pages are free."""
        revision = self._http.post_json("/v3/maintenance/status", {})["header"]["revision"]
        # Refused where that revision was compacted already: then there is nothing to do.
        with contextlib.suppress(BenchmarkFailure):
            self._http.post_json("/v3/kv/compaction", {"revision": revision, "physical": True})

    def defragment(self) -> None:
        """Give free pages back to the file system."""
        self._http.post_json("/v3/maintenance/defragment", {})


def read_stored(etcd: Etcd) -> Stored:
    """Read how large the database is once it is compacted and defragmented."""
    etcd.compact()
    etcd.defragment()
    return etcd.read_stored()


def parse_metric(metrics: str, name: str) -> int:
    """Read one of etcd's gauges from its /metrics; older releases call some of them debugging.

    Raises:
        BenchmarkFailure: It is not there.
    """
    found = re.search(rf"^etcd_(?:debugging_)?{name} (\S+)$", metrics, re.MULTILINE)
    if found is None:
        raise BenchmarkFailure(f"etcd's /metrics do not say {name}")
    return int(float(found[1]))
