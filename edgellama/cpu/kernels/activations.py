"""Functions of single values: activations, alone or as gates, and the soft cap of logits."""

from numba import float32

from ...compiler.entry import device, entry
from ...ops import ACTIVATE, GELU, GELU_ERF, MULTIPLY_SILU, RELU, SOFT_CAP
from ...simd.arithmetic import absolute, exponential, fma, maximum, splat_float, zero_float
from ...simd.lanes import choose, lanes_between
from ...simd.memory import load_f32, load_first, load_i64, store_first
from .shared import N_ACTIVE, claim, end_of, first_of, row_count

GATE_UP, PRODUCT, PITCH, PRODUCT_PITCH, PRODUCT_WIDTH, GATE_ACTIVATION = MULTIPLY_SILU.offsets()
X, X_PITCH, X_WIDTH, X_ACTIVATION = ACTIVATE.offsets()
CAPPED, CAPPED_PITCH, CAPPED_WIDTH, CAP = SOFT_CAP.offsets()
PIECE = 1024  # values of a row that one worker takes at least: a single row is shared too
ONE = float32(1.0)
LARGEST = float32(3.4028234e38)


@device
def silu_product(gate, up):
    """gate / (1 + exp(-gate)) * up (Shazeer 2020)."""
    return gate / (splat_float(ONE) + exponential(zero_float() - gate)) * up


@device
def soft_capped(x, cap):
    """cap * tanh(x / cap), by tanh(y) = 1 - 2 / (exp(2 y) + 1)."""
    power = exponential(x * splat_float(float32(2.0) / cap))
    return splat_float(cap) - splat_float(float32(2.0) * cap) / (power + splat_float(ONE))


@device
def gelu(x):
    """x / 2 * (1 + tanh(u)) = x / (1 + exp(-2 u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3)."""
    cube = fma(x * x * x, splat_float(float32(0.044715)), x)
    return x / (splat_float(ONE) + exponential(cube * splat_float(float32(-1.5957691216057308))))


@device
def gelu_erf(x):
    """x times the normal distribution's share below x, by Abramowitz & Stegun 7.1.26 (error below 1.5e-7)."""
    distance = absolute(x) * splat_float(float32(0.7071067811865476))
    t = splat_float(ONE) / fma(distance, splat_float(float32(0.3275911)), splat_float(ONE))
    p = splat_float(float32(1.061405429))
    p = fma(p, t, splat_float(float32(-1.453152027)))
    p = fma(p, t, splat_float(float32(1.421413741)))
    p = fma(p, t, splat_float(float32(-0.284496736)))
    p = fma(p, t, splat_float(float32(0.254829592)))
    tail = p * t * exponential(zero_float() - distance * distance) * splat_float(float32(0.5))
    return x * choose(lanes_between(x, float32(0.0), LARGEST), splat_float(ONE) - tail, tail)


@device
def activated(x, activation):
    if activation == GELU:
        return gelu(x)
    if activation == GELU_ERF:
        return gelu_erf(x)
    if activation == RELU:
        return maximum(x, zero_float())
    return silu_product(x, splat_float(ONE))


@device
def pieces_of(width):
    return (width + PIECE - 1) // PIECE


@entry()
def multiply_silu(op, frame, worker):
    gate_up, out, activation = load_i64(op + GATE_UP), load_i64(op + PRODUCT), load_i64(op + GATE_ACTIVATION)
    pitch, out_pitch, width = load_i64(op + PITCH), load_i64(op + PRODUCT_PITCH), load_i64(op + PRODUCT_WIDTH)
    n_pieces = pieces_of(width)
    while True:
        span = claim(op, row_count(op, frame) * n_pieces, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for unit in range(first_of(span), end_of(span)):
            row, start = unit // n_pieces, unit % n_pieces * PIECE
            gate, target = gate_up + 4 * row * pitch, out + 4 * row * out_pitch
            for i in range(start, min(start + PIECE, width), 16):
                count = width - i
                product = activated(load_first(gate + 4 * i, count), activation)
                product = product * load_first(gate + 4 * (width + i), count)
                store_first(target + 4 * i, product, count)


@entry()
def activate(op, frame, worker):
    x, pitch, width = load_i64(op + X), load_i64(op + X_PITCH), load_i64(op + X_WIDTH)
    activation, n_pieces = load_i64(op + X_ACTIVATION), pieces_of(width)
    while True:
        span = claim(op, row_count(op, frame) * n_pieces, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for unit in range(first_of(span), end_of(span)):
            row, start = x + 4 * (unit // n_pieces * pitch), unit % n_pieces * PIECE
            for i in range(start, min(start + PIECE, width), 16):
                store_first(row + 4 * i, activated(load_first(row + 4 * i, width - i), activation), width - i)


@entry()
def soft_cap(op, frame, worker):
    x, pitch, width = load_i64(op + CAPPED), load_i64(op + CAPPED_PITCH), load_i64(op + CAPPED_WIDTH)
    cap, n_pieces = load_f32(op + CAP), pieces_of(width)
    while True:
        span = claim(op, row_count(op, frame) * n_pieces, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for unit in range(first_of(span), end_of(span)):
            row, start = x + 4 * (unit // n_pieces * pitch), unit % n_pieces * PIECE
            for i in range(start, min(start + PIECE, width), 16):
                store_first(row + 4 * i, soft_capped(load_first(row + 4 * i, width - i), cap), width - i)
