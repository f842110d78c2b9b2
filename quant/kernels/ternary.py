"""Encoders of one and a half bits and less.

TQ1_0 and TQ2_0 are -1, 0 or 1 times the largest magnitude of 256 values, in the bytes that GGML's encoders write.
Q1_0 is the signs of 128 values times their mean magnitude, which is the scale with the least squared error.
"""

from numba import float32

from edgellama.compiler.entry import device, entry
from edgellama.simd.arithmetic import absolute, fma, max_lanes, maximum, splat_float, sum_lanes, zero_float
from edgellama.simd.memory import load_f32, load_u8, load_vector, store_f16, store_low_bytes, store_u8

from .lanes import to_int
from .parts import ENCODER, pack_fields
from .rounded import reciprocal, round_half_away

BLOCK = 256
SIGN_BLOCK = 128


@device
def store_ternary(x, codes):
    """256 codes 0..2 at `codes`; the scale."""
    largest = zero_float()
    for i in range(0, BLOCK, 16):
        largest = maximum(largest, absolute(load_vector(x + 4 * i)))
    scale = max_lanes(largest)
    inverse, one = splat_float(reciprocal(scale)), splat_float(float32(1.0))
    for i in range(0, BLOCK, 16):
        store_low_bytes(codes + i, to_int(round_half_away(load_vector(x + 4 * i) * inverse) + one))
    return scale


@device
def pack_digits(codes, target, run, n_digits):
    """`run` bytes, each the fraction 0.d0 d1 ... in base three rounded up to 1/256; d_i is code i * run + j."""
    for j in range(run):
        number = 0
        for digit in range(5):
            number = 3 * number + (load_u8(codes + digit * run + j) if digit < n_digits else 0)
        store_u8(target + j, (number * 256 + 242) // 243)


@entry(ENCODER)
def encode_tq1_0(source, importance, n_rows, n_columns, target, scratch):
    for block in range(n_rows * n_columns // BLOCK):
        out = target + 54 * block
        scale = store_ternary(source + 4 * BLOCK * block, scratch)
        pack_digits(scratch, out, 32, 5)
        pack_digits(scratch + 160, out + 32, 16, 5)
        pack_digits(scratch + 240, out + 48, 4, 4)
        store_f16(out + 52, scale)


@entry(ENCODER)
def encode_tq2_0(source, importance, n_rows, n_columns, target, scratch):
    for block in range(n_rows * n_columns // BLOCK):
        out = target + 66 * block
        scale = store_ternary(source + 4 * BLOCK * block, scratch)
        pack_fields(scratch, out, 64, 32, 2, 0)
        store_f16(out + 64, scale)


@device
def mean_magnitude(x, weights):
    """Of 128 values, weighted where `weights` is not 0."""
    total, weight, one = zero_float(), zero_float(), splat_float(float32(1.0))
    for i in range(0, SIGN_BLOCK, 16):
        w = load_vector(weights + 4 * i) if weights != 0 else one
        total, weight = fma(w, absolute(load_vector(x + 4 * i)), total), weight + w
    return sum_lanes(total) / sum_lanes(weight)


@entry(ENCODER)
def encode_q1_0(source, importance, n_rows, n_columns, target, scratch):
    for first in range(0, n_rows * n_columns, SIGN_BLOCK):
        x = source + 4 * first
        store_f16(target, mean_magnitude(x, importance + 4 * (first % n_columns) if importance != 0 else 0))
        for group in range(SIGN_BLOCK // 8):
            bits = 0
            for i in range(8):
                bits |= (load_f32(x + 32 * group + 4 * i) >= float32(0.0)) << i
            store_u8(target + 2 + group, bits)
        target += 18
