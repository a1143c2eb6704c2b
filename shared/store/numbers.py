"""Numbers as they are small: decimals as scaled integers, integers as the zigzag of their differences.

Telemetry moves in small steps. Split into bytes by Parquet (BYTE_STREAM_SPLIT) and compressed, the steps of
sorted records take a fifth less than DELTA_BINARY_PACKED makes of the values (docs/adr/0002).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_SCALES = (1, 10, 100, 1000)
_ONE, _ALL_BUT_ONE = pa.scalar(1, pa.int32()), pa.scalar(30, pa.int32())
#: Values by which the scale is guessed, before all of them are tried.
_SAMPLE = 64


def scale_exactly(values: pa.Array) -> tuple[pa.Array, int] | None:
    """Turn doubles into (integers, scale) where integer / scale gives back every one of them exactly.

    A negative zero comes back as zero.
    """
    sample = values.drop_null()[:_SAMPLE]
    for scale in _SCALES:
        if _scaled(sample, scale) is not None:
            integers = _scaled(values, scale)
            if integers is not None:
                return integers, scale
    return None


def _scaled(values: pa.Array, scale: int) -> pa.Array | None:
    larger = values if scale == 1 else pc.multiply(values, float(scale))
    try:
        # Whatever this rounds to, what counts is whether it gives back the value.
        integers = pc.floor(pc.add(larger, 0.5)).cast(pa.int32())
    except pa.ArrowInvalid:
        return None  # too large, or no number at all
    return integers if pc.all(pc.equal(unscale(integers, scale), values)).as_py() is not False else None


def unscale(integers: pa.Array, scale: int) -> pa.Array:
    """Turn integers back into the doubles they were."""
    values = integers.cast(pa.float64())
    return values if scale == 1 else pc.divide(values, float(scale))


def to_steps(values: pa.Array, every: int) -> pa.Array:
    """Turn int32 values into the zigzag of their differences; each run of `every` values starts anew."""
    return pa.concat_arrays([_to_steps(values[i : i + every]) for i in range(0, len(values), every)])


def _to_steps(values: pa.Array) -> pa.Array:
    known = values.is_valid() if values.null_count else None
    if known is not None:
        values = pc.fill_null(pc.fill_null_forward(values), 0)
    steps = pa.concat_arrays([values[:1], pc.subtract(values[1:], values[:-1])])
    folded = pc.bit_wise_xor(pc.shift_left(steps, _ONE), _sign(steps))
    return folded if known is None else pc.if_else(known, folded, None)


def _sign(values: pa.Array) -> pa.Array:
    """Return -1 for what is negative and 0 for the rest; Arrow does not shift a signed number by 31."""
    return pc.shift_right(pc.shift_right(values, _ALL_BUT_ONE), _ONE)


def from_steps(folded: pa.Array) -> pa.Array:
    """Turn one run of what `to_steps` made back into the values."""
    known = folded.is_valid() if folded.null_count else None
    if known is not None:
        folded = pc.fill_null(folded, 0)
    half = pc.shift_right(folded.view(pa.uint32()), _ONE.cast(pa.uint32())).view(pa.int32())
    steps = pc.bit_wise_xor(half, pc.negate(pc.bit_wise_and(folded, _ONE)))
    values = pc.cumulative_sum(steps)
    return values if known is None else pc.if_else(known, values, None)
