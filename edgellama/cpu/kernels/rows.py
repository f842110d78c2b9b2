"""Ops on whole rows of floats: RMS norm, silu product, gathering rows, the RoPE table."""

import math

from numba import float32

from ...compiler.entry import device, entry
from ...frame import frame_field
from ...ops import GATHER, MULTIPLY_SILU, RMSNORM, ROPE_TABLE
from ...simd.arithmetic import exponential, fma, splat_float, square_root, sum_lanes, zero_float
from ...simd.memory import (
    load_f32,
    load_f64,
    load_first,
    load_i32,
    load_i64,
    load_vector,
    store_f32,
    store_first,
    store_vector,
)
from .shared import N_ACTIVE, claim, end_of, first_of, is_few, local, row_count

X, WEIGHT, OUT, WIDTH, EPSILON = RMSNORM.offsets()
GATE_UP, PRODUCT, PITCH, PRODUCT_PITCH, PRODUCT_WIDTH = MULTIPLY_SILU.offsets()
GATHER_X, GATHER_OUT, GATHER_WIDTH = GATHER.offsets()
TABLE, FREQUENCIES, N_PAIRS, MAGNITUDE = ROPE_TABLE.offsets()
POSITIONS, LOGIT_ROWS = frame_field("positions"), frame_field("logit_rows")


@device
def inverse_rms(x, width, epsilon):
    """1 / sqrt(mean(x^2) + epsilon) of `width` floats; two partial sums, added in a fixed order."""
    even, odd = zero_float(), zero_float()
    whole = width & ~31
    for i in range(0, whole, 32):
        a, b = load_vector(x + 4 * i), load_vector(x + 4 * i + 64)
        even, odd = fma(a, a, even), fma(b, b, odd)
    for i in range(whole, width, 16):
        a = load_first(x + 4 * i, width - i)
        even = fma(a, a, even)
    return float32(1.0) / square_root(sum_lanes(even + odd) / float32(width) + epsilon)


@device
def rmsnorm_row(x, weight, out, width, epsilon):
    factor = splat_float(inverse_rms(x, width, epsilon))
    whole = width & ~15
    for i in range(0, whole, 16):
        store_vector(out + 4 * i, load_vector(x + 4 * i) * factor * load_vector(weight + 4 * i))
    for i in range(whole, width, 16):
        count = width - i
        normed = load_first(x + 4 * i, count) * factor
        store_first(out + 4 * i, normed * load_first(weight + 4 * i, count), count)


@device
def rmsnorm_rows(op, x, out, first, end):
    weight, width, epsilon = load_i64(op + WEIGHT), load_i64(op + WIDTH), load_f32(op + EPSILON)
    for row in range(first, end):
        rmsnorm_row(x + 4 * row * width, weight, out + 4 * row * width, width, epsilon)


@entry()
def rmsnorm(op, frame, worker):
    n_rows = row_count(op, frame)
    x, out = local(op, frame, worker, load_i64(op + X)), local(op, frame, worker, load_i64(op + OUT))
    if is_few(op, frame):
        rmsnorm_rows(op, x, out, 0, n_rows)
        return
    while True:
        span = claim(op, n_rows, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        rmsnorm_rows(op, x, out, first_of(span), end_of(span))


@device
def silu_product(gate, up):
    """gate / (1 + exp(-gate)) * up (Shazeer 2020)."""
    return gate / (splat_float(float32(1.0)) + exponential(zero_float() - gate)) * up


@entry()
def multiply_silu(op, frame, worker):
    gate_up, out = load_i64(op + GATE_UP), load_i64(op + PRODUCT)
    pitch, out_pitch, width = load_i64(op + PITCH), load_i64(op + PRODUCT_PITCH), load_i64(op + PRODUCT_WIDTH)
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for row in range(first_of(span), end_of(span)):
            gate, target = gate_up + 4 * row * pitch, out + 4 * row * out_pitch
            for i in range(0, width, 16):
                count = width - i
                product = silu_product(load_first(gate + 4 * i, count), load_first(gate + 4 * (width + i), count))
                store_first(target + 4 * i, product, count)


@entry()
def gather(op, frame, worker):
    x, out, width = load_i64(op + GATHER_X), load_i64(op + GATHER_OUT), load_i64(op + GATHER_WIDTH)
    rows = load_i64(frame + LOGIT_ROWS)
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for i in range(first_of(span), end_of(span)):
            source, target = x + 4 * width * load_i32(rows + 4 * i), out + 4 * width * i
            for j in range(0, width, 16):
                store_first(target + 4 * j, load_first(source + 4 * j, width - j), width - j)


@entry()
def rope_table(op, frame, worker):
    """Angles in float64: at position 131,071 a float32 product would be off by 0.004 radians."""
    table, frequencies, n_pairs = load_i64(op + TABLE), load_i64(op + FREQUENCIES), load_i64(op + N_PAIRS)
    magnitude, positions = load_f32(op + MAGNITUDE), load_i64(frame + POSITIONS)
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for row in range(first_of(span), end_of(span)):
            position, cosines = load_i32(positions + 4 * row), table + 8 * row * n_pairs
            for i in range(n_pairs):
                angle = position * load_f64(frequencies + 8 * i)
                store_f32(cosines + 4 * i, float32(math.cos(angle)) * magnitude)
                store_f32(cosines + 4 * (n_pairs + i), float32(math.sin(angle)) * magnitude)
