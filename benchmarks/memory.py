"""Part 5: peak memory of each function, of the queue source and of etcd."""

from __future__ import annotations

from benchmarks.figures import Section, format_bytes
from benchmarks.ingest import Kept

INCLUDES = """\
- VmHWM, the most that was resident, added up over the processes of each service (gunicorn's parent and its
  worker; pages that both share count twice), since the service was started.
- After the file of part 1 was stored; after all of it had been read back as JSON; after the load of part 3.
"""


def report(kept: Kept | None, loaded: dict[str, int] | None) -> Section:
    """Put together what parts 1 and 3 have read."""
    section = Section("Peak memory", INCLUDES, ("file stored", "read back", "load"))
    stored, read, loaded = (
        (kept.stored_peaks, kept.read_peaks, loaded or {}) if kept else ({}, {}, loaded or {})
    )
    section.figures = {"stored": stored, "read_back": read, "load": loaded}
    for name in sorted({*stored, *loaded}):
        sizes = [format_bytes(peaks[name]) if name in peaks else "" for peaks in (stored, read, loaded)]
        section.add(name, sizes[0], sizes[1], sizes[2])
    totals = [format_bytes(sum(peaks.values())) if peaks else "" for peaks in (stored, read, loaded)]
    section.add("all", totals[0], totals[1], totals[2])
    if kept and any(kept.victoria_peaks):
        section.figures["victoria_metrics"] = kept.victoria_peaks
        stored_peak, read_peak = kept.victoria_peaks
        section.add("VictoriaMetrics", format_bytes(stored_peak), format_bytes(read_peak))
    return section
