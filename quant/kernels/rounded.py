"""Encoders that only round: Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 without importance.

Byte for byte what GGML's reference encoders write: float32 in the same order, the reciprocal of the unrounded scale.
"""

from numba import float32

from edgellama.compiler.entry import device, entry
from edgellama.simd.arithmetic import absolute, max_lanes, maximum, splat_float, to_float, zero_float
from edgellama.simd.memory import load_f32, load_u8, load_vector, store_f16, store_low_bytes, store_u32

from .lanes import first_lane, smaller, smallest_of_16, to_int, where_less
from .parts import ENCODER, pack_fields

BLOCK = 32
LARGEST = float32(3.4028234663852886e38)


@device
def reciprocal(scale):
    """1 / scale, and 0 where that would be infinite."""
    inverse = float32(1.0) / scale
    return inverse if abs(inverse) <= LARGEST else float32(0.0)


@device
def round_half_away(x):
    """To the nearest integer, halves away from zero, as C's roundf does."""
    magnitude = absolute(x)
    whole = to_float(to_int(magnitude))
    one = splat_float(float32(1.0))
    rounded = where_less(magnitude - whole, splat_float(float32(0.5)), whole, whole + one)
    return where_less(x, zero_float(), zero_float() - rounded, rounded)


@device
def first_peak(x):
    """The value of largest magnitude of a block; the first of equals."""
    low, high = load_vector(x), load_vector(x + 64)
    largest = max_lanes(maximum(low, high))
    smallest = first_lane(smallest_of_16(smaller(low, high)))
    if largest > -smallest:
        return largest
    if largest < -smallest:
        return smallest
    at = x
    while abs(load_f32(at)) != largest:
        at += 4
    return load_f32(at)


@device
def store_codes(x, offset, inverse, half, top, codes):
    """trunc((x - offset) * inverse + half), at most `top`: nothing here is negative."""
    for i in range(0, BLOCK, 16):
        value = (load_vector(x + 4 * i) - splat_float(offset)) * splat_float(inverse) + splat_float(half)
        store_low_bytes(codes + i, to_int(smaller(value, splat_float(top))))


@device
def store_fifth_bits(codes, target):
    """Bit i of four bytes is bit 4 of code i."""
    bits = 0
    for i in range(BLOCK):
        bits |= (load_u8(codes + i) >> 4) << i
    store_u32(target, bits)


@device
def encode_around_zero(source, n_blocks, target, block_bytes, n_codes, codes):
    """Q4_0 and Q5_0: the value of largest magnitude gets code 0, zero gets code n_codes / 2."""
    middle = n_codes // 2
    for block in range(n_blocks):
        x, out = source + 4 * BLOCK * block, target + block_bytes * block
        scale = first_peak(x) / float32(-middle)
        half, top = float32(middle) + float32(0.5), float32(n_codes - 1)
        store_codes(x, float32(0.0), reciprocal(scale), half, top, codes)
        store_f16(out, scale)
        if n_codes == 32:
            store_fifth_bits(codes, out + 2)
        pack_fields(codes, out + block_bytes - 16, 16, 16, 4, 0)


@device
def encode_above_minimum(source, n_blocks, target, block_bytes, n_codes, codes):
    """Q4_1 and Q5_1: the smallest value gets code 0, the largest the last."""
    for block in range(n_blocks):
        x, out = source + 4 * BLOCK * block, target + block_bytes * block
        low, high = load_vector(x), load_vector(x + 64)
        smallest = first_lane(smallest_of_16(smaller(low, high)))
        scale = (max_lanes(maximum(low, high)) - smallest) / float32(n_codes - 1)
        store_codes(x, smallest, reciprocal(scale), float32(0.5), float32(n_codes - 1), codes)
        store_f16(out, scale)
        store_f16(out + 2, smallest)
        if n_codes == 32:
            store_fifth_bits(codes, out + 4)
        pack_fields(codes, out + block_bytes - 16, 16, 16, 4, 0)


@entry(ENCODER)
def encode_q4_0(source, importance, n_rows, n_columns, target, scratch):
    encode_around_zero(source, n_rows * n_columns // BLOCK, target, 18, 16, scratch)


@entry(ENCODER)
def encode_q5_0(source, importance, n_rows, n_columns, target, scratch):
    encode_around_zero(source, n_rows * n_columns // BLOCK, target, 22, 32, scratch)


@entry(ENCODER)
def encode_q4_1(source, importance, n_rows, n_columns, target, scratch):
    encode_above_minimum(source, n_rows * n_columns // BLOCK, target, 20, 16, scratch)


@entry(ENCODER)
def encode_q5_1(source, importance, n_rows, n_columns, target, scratch):
    encode_above_minimum(source, n_rows * n_columns // BLOCK, target, 24, 32, scratch)


@entry(ENCODER)
def encode_q8_0(source, importance, n_rows, n_columns, target, scratch):
    for block in range(n_rows * n_columns // BLOCK):
        x, out = source + 4 * BLOCK * block, target + 34 * block
        low, high = load_vector(x), load_vector(x + 64)
        scale = max_lanes(maximum(absolute(low), absolute(high))) / float32(127.0)
        inverse = splat_float(reciprocal(scale))
        store_f16(out, scale)
        store_low_bytes(out + 2, to_int(round_half_away(low * inverse)))
        store_low_bytes(out + 18, to_int(round_half_away(high * inverse)))
