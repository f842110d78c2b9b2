"""Blocks that are multiplied with int8 activations: Q4_0, Q8_0, Q4_K and Q6_K; blocks.py says how they lie."""

from types import SimpleNamespace

from numba import float32, int32

from ...compiler.entry import device
from ..simt.thread import (
    constant_i8,
    constant_u16,
    constant_words,
    dot16,
    load_weights,
    load_weights8,
    shared_load_words,
)
from ..simt.vectors import (
    first,
    fma,
    fma4,
    half_of_bits,
    high_nibbles,
    join_pairs,
    low_nibbles,
    second,
    signed0,
    signed1,
    signed2,
    signed3,
    splat4,
    third,
    unsigned0,
    unsigned1,
    unsigned2,
    unsigned3,
    upper_bits_0,
    upper_bits_2,
    upper_bits_4,
    upper_bits_6,
    word0,
    word1,
    word2,
    word3,
)

ONE, EIGHT, THIRTY_TWO = float32(1.0), float32(8.0), float32(32.0)


@device
def factor_one(loaded):
    return ONE


@device
def affine(codes, scale, offset):
    """scale * codes + offset, four at a time."""
    return fma4(codes, splat4(scale), splat4(offset))


@device
def nibble_values(codes, scale, offset):
    """The 32 numbers of a block of nibbles."""
    low, high = low_nibbles(codes), high_nibbles(codes)
    return (
        affine(unsigned0(low), scale, offset),
        affine(unsigned1(low), scale, offset),
        affine(unsigned2(low), scale, offset),
        affine(unsigned3(low), scale, offset),
        affine(unsigned0(high), scale, offset),
        affine(unsigned1(high), scale, offset),
        affine(unsigned2(high), scale, offset),
        affine(unsigned3(high), scale, offset),
    )


@device
def nibble_dot(codes, x, half_bytes):
    """Sum of the products of a block's nibbles with its activations."""
    total = dot16(low_nibbles(codes), shared_load_words(x), int32(0))
    return float32(dot16(high_nibbles(codes), shared_load_words(x + half_bytes), total))


# A kind's functions. load(matrix..., row, block, n_blocks, run) -> what the block holds in registers.
# dot(loaded, x, half_bytes, fields): int8 activations at x and x + half_bytes; fields are (scale, scale * sum of the
# first 16, scale * sum of the others). values(loaded): eight vectors of four.


@device
def load_q4_0(codes, scales, extras, row, block, n_blocks, run):
    at = row * n_blocks + block
    return load_weights(codes + 16 * at), half_of_bits(constant_u16(scales + 2 * at))


@device
def dot_q4_0(loaded, x, half_bytes, fields):
    codes, scale = loaded
    total = first(fields) * nibble_dot(codes, x, half_bytes)
    return scale * fma(-EIGHT, second(fields) + third(fields), total)


@device
def values_q4_0(loaded):
    codes, scale = loaded
    return nibble_values(codes, scale, -EIGHT * scale)


@device
def load_q8_0(codes, scales, extras, row, block, n_blocks, run):
    at = codes + 16 * (2 * row * n_blocks + block)
    scale = half_of_bits(constant_u16(scales + 2 * (row * n_blocks + block)))
    return load_weights(at), load_weights(at + 16 * n_blocks), scale


@device
def dot_q8_0(loaded, x, half_bytes, fields):
    low, high, scale = loaded
    total = dot16(low, shared_load_words(x), int32(0))
    total = dot16(high, shared_load_words(x + half_bytes), total)
    return scale * (first(fields) * float32(total))


@device
def values_q8_0(loaded):
    low, high, scale = loaded
    factor = splat4(scale)
    return (
        signed0(low) * factor,
        signed1(low) * factor,
        signed2(low) * factor,
        signed3(low) * factor,
        signed0(high) * factor,
        signed1(high) * factor,
        signed2(high) * factor,
        signed3(high) * factor,
    )


@device
def load_q4_k(codes, scales, extras, row, block, n_blocks, run):
    at = row * n_blocks + block
    head = constant_words(scales + 16 * (at >> 3))
    pair, shift = word0(head), 4 * (block & 7)
    upper = word3(head) >> shift
    scale = half_of_bits(pair) * float32((word1(head) >> shift) & 15 | (upper & 3) << 4)
    minimum = half_of_bits(pair >> 16) * float32((word2(head) >> shift) & 15 | (upper & 12) << 2)
    return load_weights(codes + 16 * at), scale, minimum


@device
def dot_q4_k(loaded, x, half_bytes, fields):
    codes, scale, minimum = loaded
    total = first(fields) * nibble_dot(codes, x, half_bytes)
    return fma(-minimum, second(fields) + third(fields), scale * total)


@device
def values_q4_k(loaded):
    codes, scale, minimum = loaded
    return nibble_values(codes, scale, -minimum)


@device
def load_q6_k(codes, scales, extras, row, block, n_blocks, run):
    """extras: all rows' upper bits, then from `run` on their float16 scales."""
    at = row * n_blocks + block
    scale = half_of_bits(constant_u16(extras + run + 2 * (at >> 3)))
    low_scale = scale * float32(constant_i8(scales + 2 * at))
    high_scale = scale * float32(constant_i8(scales + 2 * at + 1))
    return load_weights(codes + 16 * at), load_weights8(extras + 8 * at), low_scale, high_scale


@device
def codes_q6_k(nibbles, upper):
    """Codes 0..63 of columns 0-15 and 16-31; bits 2i of upper byte j belong to column 8 i + j."""
    low = low_nibbles(nibbles) | join_pairs(upper_bits_0(upper), upper_bits_2(upper))
    return low, high_nibbles(nibbles) | join_pairs(upper_bits_4(upper), upper_bits_6(upper))


@device
def dot_q6_k(loaded, x, half_bytes, fields):
    nibbles, upper, low_scale, high_scale = loaded
    low, high = codes_q6_k(nibbles, upper)
    low_total = float32(dot16(low, shared_load_words(x), int32(0)))
    high_total = float32(dot16(high, shared_load_words(x + half_bytes), int32(0)))
    low_part = fma(first(fields), low_total, -THIRTY_TWO * second(fields))
    return fma(low_scale, low_part, high_scale * fma(first(fields), high_total, -THIRTY_TWO * third(fields)))


@device
def values_q6_k(loaded):
    nibbles, upper, low_scale, high_scale = loaded
    low, high = codes_q6_k(nibbles, upper)
    low_offset, high_offset = -THIRTY_TWO * low_scale, -THIRTY_TWO * high_scale
    return (
        affine(unsigned0(low), low_scale, low_offset),
        affine(unsigned1(low), low_scale, low_offset),
        affine(unsigned2(low), low_scale, low_offset),
        affine(unsigned3(low), low_scale, low_offset),
        affine(unsigned0(high), high_scale, high_offset),
        affine(unsigned1(high), high_scale, high_offset),
        affine(unsigned2(high), high_scale, high_offset),
        affine(unsigned3(high), high_scale, high_offset),
    )


INTEGER_KINDS = {
    "q4_0": SimpleNamespace(load=load_q4_0, dot=dot_q4_0, values=values_q4_0, factor=factor_one),
    "q8_0": SimpleNamespace(load=load_q8_0, dot=dot_q8_0, values=values_q8_0, factor=factor_one),
    "q4_k": SimpleNamespace(load=load_q4_k, dot=dot_q4_k, values=values_q4_k, factor=factor_one),
    "q6_k": SimpleNamespace(load=load_q6_k, dot=dot_q6_k, values=values_q6_k, factor=factor_one),
}
