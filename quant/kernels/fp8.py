"""Float32 rows divided by their scales to FP8 codes: the nearest value, halves to even, the largest for what is beyond.

https://arxiv.org/abs/2209.05433, section 3.
"""

from numba import float32, types

from edgellama.compiler.entry import device, entry, intp
from edgellama.simd.arithmetic import absolute, minimum, shift_right, splat_float, splat_int
from edgellama.simd.memory import load_first, splat_load, store_low_bytes

from .lanes import bits_of, float_of_bits, int_where_less

ROUND = types.void(intp, intp, types.int64, types.int64, types.int64, intp)
FLOAT32_MANTISSA_BITS, FLOAT32_BIAS = 23, 127
WHOLE = float32(8388608.0)  # 2**23: a float32 from here on has no fraction, so adding it rounds to an integer


@device
def power_of_two(exponent):
    return float_of_bits((exponent + FLOAT32_BIAS) << FLOAT32_MANTISSA_BITS)


@device
def nearest_codes(x, mantissa_bits, bias, largest):
    """int32 codes of 16 finite floats."""
    magnitude, dropped = minimum(absolute(x), splat_float(largest)), FLOAT32_MANTISSA_BITS - mantissa_bits
    bits = bits_of(magnitude)
    # Half a step, less one bit where the last bit that stays is 0: then a half goes down. A carry is the next exponent.
    half = splat_int((1 << (dropped - 1)) - 1) + (shift_right(bits, dropped) & splat_int(1))
    normal = shift_right(bits + half, dropped) - splat_int((FLOAT32_BIAS - bias) << mantissa_bits)
    steps = magnitude * splat_float(power_of_two(bias - 1 + mantissa_bits))  # equal ones; the last is the first normal
    subnormal = bits_of(steps + splat_float(WHOLE)) - bits_of(splat_float(WHOLE))
    code = int_where_less(magnitude, splat_float(power_of_two(1 - bias)), subnormal, normal)
    return code | (shift_right(bits_of(x), 24) & splat_int(0x80))


@device
def round_rows(source, scales, n_rows, n_columns, run_columns, target, mantissa_bits, bias, largest):
    """Runs follow each other in a row, each with a scale. Up to 15 bytes behind the last code are overwritten."""
    n_runs = (n_columns + run_columns - 1) // run_columns
    for row in range(n_rows):
        for run in range(n_runs):
            scale = splat_load(scales + 4 * (row * n_runs + run))
            end = min((run + 1) * run_columns, n_columns)
            for column in range(run * run_columns, end, 16):
                place = row * n_columns + column
                x = load_first(source + 4 * place, end - column) / scale
                store_low_bytes(target + place, nearest_codes(x, mantissa_bits, bias, largest))


@entry(ROUND)
def round_e4m3(source, scales, n_rows, n_columns, run_columns, target):
    round_rows(source, scales, n_rows, n_columns, run_columns, target, 3, 7, float32(448.0))


@entry(ROUND)
def round_e5m2(source, scales, n_rows, n_columns, run_columns, target):
    round_rows(source, scales, n_rows, n_columns, run_columns, target, 2, 15, float32(57344.0))
