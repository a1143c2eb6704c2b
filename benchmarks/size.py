"""Part 2: what the same rows take on disk, once both sides have tidied up."""

from __future__ import annotations

from benchmarks.database import read_stored
from benchmarks.figures import Aim, Section, divide, format_bytes, format_ratio
from benchmarks.ingest import Ingested
from benchmarks.run import Run
from benchmarks.victoria import du

INCLUDES = """\
- Pipeline: collect is ticked until etcd's database stays what it is (folded), then etcd is compacted and
  defragmented; its dbSizeInUse by /metrics, less that of an empty pipeline's. Labels, index and the
  upload's report are in it; etcd's log and snapshots, which do not grow with the data, are not.
- VictoriaMetrics: what its folders take (`du`) after force_flush and force_merge: `data` holds the samples,
  `indexdb` the names of the series.
"""


def measure(run: Run, done: Ingested) -> Section:
    """Measure part 2 on the stores of part 1."""
    samples, empty = run.fleet.samples, done.kept.empty
    section = Section(f"Size: {samples:,} samples", INCLUDES)
    with run.progress() as progress:
        task = progress.add_task("folding", total=None)
        ticks = done.pipeline.settle(lambda: progress.advance(task))
        stored = read_stored(done.pipeline.etcd())
    ours = (stored.in_use - empty.in_use) / samples
    section.figures = {
        "samples": samples,
        "ticks": ticks,
        "pipeline": {"in_use": stored.in_use, "file": stored.file, "empty": vars(empty), "per_sample": ours},
    }
    folder = du(done.pipeline.data_dir)
    if done.victoria is None:
        section.add("bytes per sample", f"{ours:.3f}")
    else:
        done.victoria.merge()
        folders = done.victoria.read_folder_bytes()
        data, both = folders["data"] / samples, sum(folders.values()) / samples
        ratio = divide(ours, data)
        section.figures["victoria_metrics"] = {**folders, "per_sample": data, "per_sample_with_index": both}
        section.figures["ratio"] = ratio
        aim = Aim("below 1x", ratio < 1)
        section.add("bytes per sample", f"{ours:.3f}", f"{data:.3f}", format_ratio(ratio), aim)
        indexed = divide(ours, both)
        aim = Aim("below 1x", indexed < 1)
        section.add(
            "  with the index of its series", f"{ours:.3f}", f"{both:.3f}", format_ratio(indexed), aim
        )
    theirs = du(done.victoria.data_dir) if done.victoria else None
    section.add("database in use", format_bytes(stored.in_use))
    section.add("  of that empty", format_bytes(empty.in_use))
    section.add("database file, defragmented", format_bytes(stored.file))
    section.add("whole data folder", format_bytes(folder), "" if theirs is None else format_bytes(theirs))
    section.add("ticks until it stayed", str(ticks))
    return section
