"""Blocks that are multiplied with float activations: values(loaded) times factor(loaded) are the numbers."""

from types import SimpleNamespace

from ...compiler.entry import device
from ..simt.thread import (
    constant_f32,
    load_weights,
    shared_load_floats,
)
from ..simt.vectors import (
    e4m3_0,
    e4m3_1,
    e4m3_2,
    e4m3_3,
    e5m2_0,
    e5m2_1,
    e5m2_2,
    e5m2_3,
    floats_of,
    fma4,
    high_bfloats,
    high_halves,
    low_bfloats,
    low_halves,
    sum4,
    zero4,
)
from .integer_blocks import factor_one


@device
def load_halves(codes, scales, extras, row, block, n_blocks, run):
    at, step = codes + 16 * (4 * row * n_blocks + block), 16 * n_blocks
    return load_weights(at), load_weights(at + step), load_weights(at + 2 * step), load_weights(at + 3 * step)


@device
def values_f16(loaded):
    a, b, c, d = loaded
    return (
        low_halves(a),
        high_halves(a),
        low_halves(b),
        high_halves(b),
        low_halves(c),
        high_halves(c),
        low_halves(d),
        high_halves(d),
    )


@device
def values_bf16(loaded):
    a, b, c, d = loaded
    return (
        low_bfloats(a),
        high_bfloats(a),
        low_bfloats(b),
        high_bfloats(b),
        low_bfloats(c),
        high_bfloats(c),
        low_bfloats(d),
        high_bfloats(d),
    )


@device
def load_f32_block(codes, scales, extras, row, block, n_blocks, run):
    at, step = codes + 16 * (8 * row * n_blocks + block), 16 * n_blocks
    return (
        load_weights(at),
        load_weights(at + step),
        load_weights(at + 2 * step),
        load_weights(at + 3 * step),
        load_weights(at + 4 * step),
        load_weights(at + 5 * step),
        load_weights(at + 6 * step),
        load_weights(at + 7 * step),
    )


@device
def values_f32(loaded):
    a, b, c, d, e, f, g, h = loaded
    return (
        floats_of(a),
        floats_of(b),
        floats_of(c),
        floats_of(d),
        floats_of(e),
        floats_of(f),
        floats_of(g),
        floats_of(h),
    )


@device
def load_fp8(codes, scales, extras, row, block, n_blocks, run):
    """`run`: blocks that share a scale, of at most n_blocks; `extras`: scales of a row."""
    at = codes + 16 * (2 * row * n_blocks + block)
    scale = constant_f32(scales + 4 * (row * extras + block // run))
    return load_weights(at), load_weights(at + 16 * n_blocks), scale


@device
def values_e4m3(loaded):
    low, high, _ = loaded
    return e4m3_0(low), e4m3_1(low), e4m3_2(low), e4m3_3(low), e4m3_0(high), e4m3_1(high), e4m3_2(high), e4m3_3(high)


@device
def values_e5m2(loaded):
    low, high, _ = loaded
    return e5m2_0(low), e5m2_1(low), e5m2_2(low), e5m2_3(low), e5m2_0(high), e5m2_1(high), e5m2_2(high), e5m2_3(high)


@device
def factor_fp8(loaded):
    return loaded[2]


@device
def float_dot(values, x, piece_bytes):
    """Products of 32 values with float activations in eight pieces of shared memory."""
    total = zero4(0)
    for index in range(8):
        total = fma4(values[index], shared_load_floats(x + index * piece_bytes), total)
    return sum4(total)


FLOAT_KINDS = {
    "f16": SimpleNamespace(load=load_halves, values=values_f16, factor=factor_one),
    "bf16": SimpleNamespace(load=load_halves, values=values_bf16, factor=factor_one),
    "f32": SimpleNamespace(load=load_f32_block, values=values_f32, factor=factor_one),
    "fp8_e4m3": SimpleNamespace(load=load_fp8, values=values_e4m3, factor=factor_fp8),
    "fp8_e5m2": SimpleNamespace(load=load_fp8, values=values_e5m2, factor=factor_fp8),
}
