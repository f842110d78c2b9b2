"""The encoder of MXFP4: 4-bit floats whose scale is a power of two. Bytes as GGML's encoder writes."""

import math

import numpy as np

from edgellama.compiler.entry import device, entry
from edgellama.formats.mxfp4 import DOUBLED_E2M1
from edgellama.simd.arithmetic import absolute, max_lanes, maximum, splat_float, splat_int, zero_int
from edgellama.simd.memory import load_vector, store_low_bytes, store_u8

from .lanes import bits_of_float, float_of_bits, int_where_less, where_less
from .parts import ENCODER, pack_fields

BLOCK = 32
LEVELS = DOUBLED_E2M1.astype(np.float32)
MANTISSA = (1 << 23) - 1


def _rounds_up(exponent: int, steps: int) -> bool:
    """Whether the float32 logarithm of the value `steps` below 2 ** exponent is `exponent` itself."""
    logarithm = exponent + math.log2(1 - steps * 2.0**-24)
    return np.float32(logarithm) == exponent


def _steps_rounded_up(exponent: int) -> int:
    steps = 0
    while _rounds_up(exponent, steps + 1):
        steps += 1
    return steps


# Index: biased exponent of a float32. GGML takes the floor of a float32 logarithm, which is one too large for the last
# few values below a power of two.
STEPS_ROUNDED_UP = np.array([_steps_rounded_up(biased - 126) for biased in range(256)], np.int64)


@device
def scale_exponent(largest):
    """floor(log2(largest)) - 2, biased by 127 as E8M0 is; 0 for a block of zeros."""
    bits = bits_of_float(largest)
    exponent, mantissa = bits >> 23, bits & MANTISSA
    if exponent == 0:  # a subnormal: below the smallest scale
        return 0
    if mantissa > MANTISSA - STEPS_ROUNDED_UP[exponent]:
        exponent += 1
    return max(exponent - 2, 0)


@device
def half_scale(exponent):
    """2 ** (exponent - 128) as a float32, which for exponents 0 and 1 is subnormal."""
    return float_of_bits(0x200000 << exponent if exponent < 2 else (exponent - 1) << 23)


@device
def nearest_codes(x, scale):
    """The first code whose level is nearest to each lane."""
    best_error, best = absolute(x), zero_int()
    for code in range(1, 16):
        error = absolute(scale * splat_float(LEVELS[code]) - x)
        best = int_where_less(error, best_error, splat_int(code), best)
        best_error = where_less(error, best_error, error, best_error)
    return best


@entry(ENCODER)
def encode_mxfp4(source, importance, n_rows, n_columns, target, scratch):
    for block in range(n_rows * n_columns // BLOCK):
        x, out = source + 4 * BLOCK * block, target + 17 * block
        low, high = load_vector(x), load_vector(x + 64)
        exponent = scale_exponent(max_lanes(maximum(absolute(low), absolute(high))))
        scale = splat_float(half_scale(exponent))
        store_low_bytes(scratch, nearest_codes(low, scale))
        store_low_bytes(scratch + 16, nearest_codes(high, scale))
        store_u8(out, exponent)
        pack_fields(scratch, out + 1, 16, 16, 4, 0)
