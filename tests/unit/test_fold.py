"""Which segments are folded and merged: decisions over made-up indexes, no I/O."""

from __future__ import annotations

import itertools
import random

from shared.store.fold import FOLD_COUNT, FULL_BYTES, MERGE_DEPTH, MOST_ROWS, Step, decide_fold, decide_merge
from shared.store.replace import MOST_INPUTS, MOST_OUTPUTS
from shared.store.segment import SegmentInfo
from shared.store.write import TARGET_BYTES

ids = itertools.count()


def segment(
    size=8_000, *, level=0, day="20240115", start=0, uuids=("GPU-000", "GPU-999"), rows=None, gpus=1000
):
    return SegmentInfo(
        id=f"s{next(ids):06d}", day=day, level=level, min_ms=start, max_ms=start + 999,
        min_uuid=uuids[0], max_uuid=uuids[1], min_upload="a", max_upload="z",
        rows=size // 6 if rows is None else rows, size_bytes=size, gpus=gpus,
    )  # fmt: skip


def test_sixteen_small_ones_are_folded_the_earliest_first():
    segments = [segment(start=i * 1000) for i in range(FOLD_COUNT + 3)]
    random.Random(1).shuffle(segments)
    step = decide_fold(segments)
    assert (step.kind, step.level) == ("fold", 1)
    assert [s.min_ms for s in step.inputs] == [i * 1000 for i in range(FOLD_COUNT + 3)]
    assert decide_fold(segments[: FOLD_COUNT - 1]) is None


def test_days_are_never_folded_together():
    segments = [segment(day=f"2024011{i % 2}") for i in range(2 * FOLD_COUNT - 2)]
    assert decide_fold(segments) is None
    step = decide_fold([*segments, segment(day="20240111")])
    assert {s.day for s in step.inputs} == {"20240111"}


def test_what_would_not_fit_into_a_segment_is_not_folded_into_it():
    step = decide_fold([segment(200_000) for _ in range(FOLD_COUNT)])
    assert 1 < len(step.inputs) < FOLD_COUNT
    assert FULL_BYTES < sum(s.size_bytes for s in step.inputs) <= TARGET_BYTES


def test_full_ones_only_get_an_inventory():
    full = [segment(FULL_BYTES + 1, start=i) for i in range(FOLD_COUNT)]
    step = decide_fold(full)
    assert (step.kind, step.inputs) == ("adopt", tuple(full[:8]))
    assert decide_fold(full[1:]) is None


def test_the_tick_leaves_nothing_fresh_behind():
    segments = [segment(size) for size in (100, 9_000, 300_000, FULL_BYTES, FULL_BYTES + 1)]
    segments.append(segment(5_000, day="20240116"))
    for _ in range(10):
        step = decide_fold(segments, all_fresh=True)
        if step is None:
            break
        segments = taken(segments, step)
    assert {s.level for s in segments} == {1}


def test_a_day_that_is_over_is_folded_to_the_end():
    segments = [segment(9_000, level=1), segment(300_000, level=1)]
    assert decide_fold(segments, today="20240115") is None
    assert len(decide_fold(segments, today="20240116").inputs) == 2


def test_full_ones_are_merged_once_so_many_may_hold_one_gpu():
    full = [segment(TARGET_BYTES, level=1, start=i * 1000) for i in range(MERGE_DEPTH)]
    step = decide_merge(full)
    assert (step.kind, step.level, set(step.inputs)) == ("merge", 2, set(full))
    assert decide_merge(full[1:]) is None
    apart = [segment(TARGET_BYTES, level=2, uuids=(f"GPU-{i}00", f"GPU-{i}99")) for i in range(9)]
    assert decide_merge(apart) is None
    assert decide_merge([segment(TARGET_BYTES, level=2, gpus=1) for _ in range(9)]) is None


def taken(segments, step: Step):
    """What a step leaves, as sizes go: a run of segments cut between GPUs."""
    rest = [s for s in segments if s not in step.inputs]
    assert len(rest) == len(segments) - len(step.inputs)
    assert len(step.inputs) <= MOST_INPUTS
    assert len({s.day for s in step.inputs}) == 1
    if step.kind == "adopt":
        return rest + [segment(s.size_bytes, level=1, day=s.day, start=s.min_ms) for s in step.inputs]
    size, rows = sum(s.size_bytes for s in step.inputs), sum(s.rows for s in step.inputs)
    pieces = max(round(size / TARGET_BYTES), 1)
    assert pieces <= MOST_OUTPUTS
    low, high = min(int(s.min_uuid[4:]) for s in step.inputs), max(int(s.max_uuid[4:]) for s in step.inputs)
    cuts = [low + (high + 1 - low) * i // pieces for i in range(pieces + 1)]
    return rest + [
        segment(
            size // pieces, level=step.level, day=step.inputs[0].day, start=step.inputs[0].min_ms,
            uuids=(f"GPU-{a:03d}", f"GPU-{b - 1:03d}"), rows=rows // pieces, gpus=max(b - a, 1),
        )
        for a, b in itertools.pairwise(cuts)
    ]  # fmt: skip


def test_however_the_data_come_one_gpu_is_in_tens_of_segments():
    """An hour of small uploads, of large ones and of both: each fold as collect does it, a tick now and then."""
    for seed in range(4):
        draw = random.Random(seed)
        segments, worst, written, came = [], 0, 0, 0
        for second in range(1500):
            size = draw.choice([(6_000,), (450_000, 900_000), (6_000, 6_000, 50_000, 700_000)][seed % 3])
            segments.append(segment(size, start=second * 1000))
            came += size
            for _ in range(4):
                step = decide_fold(segments)
                if step is None:
                    break
                written += sum(s.size_bytes for s in step.inputs)
                segments = taken(segments, step)
            while second % 60 == 59:
                step = decide_fold(segments, all_fresh=True) or decide_merge(segments)
                if step is None:
                    break
                assert sum(s.rows for s in step.inputs) <= MOST_ROWS + TARGET_BYTES
                written += sum(s.size_bytes for s in step.inputs)
                segments = taken(segments, step)
            worst = max(worst, sum(s.min_uuid <= "GPU-500" <= s.max_uuid for s in segments))
        assert worst < 80, seed
        assert written < 12 * came, seed
