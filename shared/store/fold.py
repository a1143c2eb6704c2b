"""Which segments are folded into which: decisions only, over what the index says.

Fresh segments are as small as the uploads were. As they come, collect folds those of a like size: sixteen
of a few KB into one, sixteen of those into one, until they are full. Full segments hold every GPU for a
short time; the tick merges them into runs that hold few GPUs each for a long time, level by level, so that
one GPU's history is in few places. A step takes at most MOST_INPUTS segments and MOST_ROWS records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from shared.store.replace import MOST_INPUTS
from shared.store.segment import SegmentInfo
from shared.store.write import TARGET_BYTES

#: Segments of one size that are folded together as data come, once there are so many.
FOLD_COUNT = 16
#: What is larger is full: it is not folded by size any more. Any two that are not make one segment.
FULL_BYTES = TARGET_BYTES // 2
#: Bounds between sizes that are folded together.
_SIZES = (16_000, 64_000, 256_000)
#: Full segments of one level that hold the same GPU, from which on they are merged.
MERGE_DEPTH = 4
#: Records that one step decodes, about 100 MB.
MOST_ROWS = 800_000
#: Fresh full segments that are lifted to level 1 together: their inventories make one transaction.
_ADOPT_COUNT = 8


class Step(NamedTuple):
    """Segments of one ingestion day to be replaced."""

    kind: Literal["adopt", "fold", "merge"]
    inputs: tuple[SegmentInfo, ...]
    level: int


def decide_fold(segments: Iterable[SegmentInfo], *, all_fresh: bool = False, today: str = "") -> Step | None:
    """Find segments worth folding now, or None: neighbours in time and of one size.

    Args:
        segments: Any; those that are full, or merged already, are passed over.
        all_fresh: Leave no fresh segment behind, however few there are.
        today: Of ingestion days before this one nothing more comes: what is small is folded at two.
    """
    for group in _by_day(s for s in segments if s.level <= 1):
        fresh = [s for s in group if s.level == 0]
        small = [s for s in group if s.size_bytes <= FULL_BYTES]
        large = [s for s in fresh if s.size_bytes > FULL_BYTES]
        if len(large) >= (1 if all_fresh else FOLD_COUNT):
            return Step("adopt", tuple(large[:_ADOPT_COUNT]), 1)
        closed = group[0].day < today
        for alike in [small] if closed else _by_size(small):
            if len(alike) >= (2 if closed else FOLD_COUNT):
                chosen = _fitting(alike)
                if len(chosen) > 1:
                    return Step("fold", chosen, 1)
        chosen = _fitting([s for s in small if s.level == 0])
        if chosen and all_fresh:
            return Step("fold" if len(chosen) > 1 else "adopt", chosen, 1)
    return None


def decide_merge(segments: Iterable[SegmentInfo]) -> Step | None:
    """Find full segments worth merging into narrower ones, or None; the lowest level first."""
    full = [s for s in segments if s.level >= 2 or (s.level == 1 and s.size_bytes > FULL_BYTES)]  # noqa: PLR2004
    for group in _by_day(s for s in full if s.gpus != 1):
        for level in sorted({s.level for s in group}):
            chosen = _deep([s for s in group if s.level == level])
            if chosen:
                return Step("merge", chosen, level + 1)
    return None


def _by_day(segments: Iterable[SegmentInfo]) -> Iterator[list[SegmentInfo]]:
    """Group segments by ingestion day, the earliest records first."""
    ordered = sorted(segments, key=lambda s: (s.day, s.min_ms, s.id))
    for _, group in groupby(ordered, key=lambda s: s.day):
        yield list(group)


def _by_size(segments: Sequence[SegmentInfo]) -> Iterator[list[SegmentInfo]]:
    for size in range(len(_SIZES) + 1):
        alike = [s for s in segments if sum(s.size_bytes > bound for bound in _SIZES) == size]
        if alike:
            yield alike


def _fitting(segments: Sequence[SegmentInfo]) -> tuple[SegmentInfo, ...]:
    """Take as many from the first on as make one segment."""
    chosen: list[SegmentInfo] = []
    size = rows = 0
    for s in segments[:MOST_INPUTS]:
        size, rows = size + s.size_bytes, rows + s.rows
        if chosen and (size > TARGET_BYTES or rows > MOST_ROWS):
            break
        chosen.append(s)
    return tuple(chosen)


def _deep(segments: Sequence[SegmentInfo]) -> tuple[SegmentInfo, ...]:
    """Find, from the lowest uuid on, where MERGE_DEPTH segments may hold one GPU, and take those and on."""
    ordered = sorted(segments, key=lambda s: (s.min_uuid, s.min_ms, s.id))
    for place, first in enumerate(ordered):
        over = [s for s in ordered[: place + 1] if s.max_uuid >= first.min_uuid]
        if len(over) < MERGE_DEPTH:
            continue
        chosen: list[SegmentInfo] = []
        rows = 0
        for s in over + ordered[place + 1 :]:
            rows += s.rows
            overlaps = not chosen or s.min_uuid <= max(c.max_uuid for c in chosen)
            enough = len(chosen) >= MERGE_DEPTH and (rows > MOST_ROWS or not overlaps)
            if enough or len(chosen) == MOST_INPUTS // 2:
                break
            chosen.append(s)
        return tuple(chosen)
    return ()
