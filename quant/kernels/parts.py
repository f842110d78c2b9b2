"""What the encoders share: their signature, packing of codes, and the choice of a sum or a maximum by group size.

An encoder `encode(source, importance, n_rows, n_columns, target, scratch)` reads float32 rows and writes the bytes of
whole rows. `importance` is the address of n_columns positive float32 weights, or 0: then all columns weigh the same.
`scratch` is SCRATCH_BYTES of memory of the calling thread's own.
"""

from numba import float32, types

from edgellama.compiler.entry import device, intp
from edgellama.simd.arithmetic import splat_float, zero_float
from edgellama.simd.memory import load_bytes16, store_bytes16
from edgellama.simd.unpack import field16, shift_left16

from .lanes import (
    larger,
    largest_of_2,
    largest_of_4,
    largest_of_8,
    largest_of_16,
    nearest,
    smaller,
    sum_of_2,
    sum_of_4,
    sum_of_8,
    sum_of_16,
    where_less,
)

INFINITE = float32(3e38)  # more than any error
ENCODER = types.void(intp, intp, types.int64, types.int64, intp, intp)


@device
def pack_fields(codes, target, n_bytes, run, bits, shift):
    """`bits` bits of every code, from bit `shift` on, into n_bytes at `target`; the layout of formats.bits.pack.

    Each group of `run` bytes, a multiple of 16, takes 8 // bits consecutive runs of codes, the first one in the
    lowest bits.
    """
    n_fields, mask = 8 // bits, (1 << bits) - 1
    for group in range(0, n_bytes, run):
        for j in range(0, run, 16):
            source = codes + group * n_fields + j
            packed = field16(load_bytes16(source), shift, mask)
            for k in range(1, n_fields):
                packed = packed | shift_left16(field16(load_bytes16(source + k * run), shift, mask), bits * k)
            store_bytes16(target + group + j, packed)


@device
def inverse_or_zero(x):
    """1 / x, and 0 where x is 0 or so small that the quotient would not be finite."""
    zero, least = zero_float(), splat_float(float32(1e-38))
    inverse = splat_float(float32(1.0)) / x
    return where_less(least, x, inverse, where_less(x, zero - least, inverse, zero))


@device
def clamp(x, low, high):
    return smaller(larger(x, low), high)


@device
def nearest_in(x, low, high):
    return clamp(nearest(x), low, high)


@device
def group_sum(x, n_lanes):
    """The sum over each group of 1, 2, 4, 8 or 16 lanes, in every lane of the group."""
    if n_lanes == 1:
        return x
    if n_lanes == 2:
        return sum_of_2(x)
    if n_lanes == 4:
        return sum_of_4(x)
    return sum_of_8(x) if n_lanes == 8 else sum_of_16(x)


@device
def group_largest(x, n_lanes):
    """The same for the largest, of 2, 4, 8 or 16 lanes."""
    if n_lanes == 2:
        return largest_of_2(x)
    if n_lanes == 4:
        return largest_of_4(x)
    return largest_of_8(x) if n_lanes == 8 else largest_of_16(x)
