"""What stands between two products of a feed-forward block, and a cap on scores; element by element."""

from numba import float32

from ...compiler.entry import device
from ...ops import GELU, GELU_ERF, RELU
from ..simt.thread import (
    block_index,
    block_threads,
    exp2,
    load_f32,
    start_next,
    store_f32,
    thread_index,
    wait_for_previous,
)
from ..simt.vectors import fma, magnitude
from .constants import LOG2_E, ONE, ZERO
from .launch import FLOAT, INT, kernel
from .matvec import silu

HALF, TWO, MOST = float32(0.5), float32(2.0), float32(20.0)
ROOT_2_OVER_PI, CUBIC, ROOT_HALF = float32(0.7978845608028654), float32(0.044715), float32(0.7071067811865476)
# Abramowitz and Stegun 7.1.26: the error function within 1.5e-7.
ERF_STEP = float32(0.3275911)
ERF_1, ERF_2, ERF_3 = float32(0.254829592), float32(-0.284496736), float32(1.421413741)
ERF_4, ERF_5 = float32(-1.453152027), float32(1.061405429)


@device
def hyperbolic_tangent(x):
    """For a large x it is 1, before a power of two overflows."""
    if x > MOST:
        return ONE
    return ONE - TWO / (exp2(TWO * LOG2_E * x) + ONE)


@device
def error_function(x):
    size = magnitude(x)
    t = ONE / fma(ERF_STEP, size, ONE)
    series = fma(fma(fma(fma(ERF_5, t, ERF_4), t, ERF_3), t, ERF_2), t, ERF_1) * t
    value = ONE - series * exp2(-size * size * LOG2_E)
    return value if x >= ZERO else -value


@device
def activated(x, activation):
    """SILU, GELU, GELU_ERF or RELU of ops.py."""
    if activation == GELU:
        return HALF * x * (ONE + hyperbolic_tangent(ROOT_2_OVER_PI * fma(CUBIC * x * x, x, x)))
    if activation == GELU_ERF:
        return HALF * x * (ONE + error_function(x * ROOT_HALF))
    if activation == RELU:
        return x if x > ZERO else ZERO
    return silu(x)


@device
def capped(x, cap):
    """cap * tanh(x / cap), or x without a cap."""
    return cap * hyperbolic_tangent(x / cap) if cap > ZERO else x


@kernel(INT, INT, INT, INT, INT, INT, threads=256)
def multiply_silu(gate_up, out, pitch, out_pitch, width, activation):
    """out = activation(gate) up, up lying `width` values behind gate; blocks (rows)."""
    start_next()
    wait_for_previous()
    row, column = block_index(), thread_index()
    while column < width:
        at = gate_up + 4 * (pitch * row + column)
        store_f32(out + 4 * (out_pitch * row + column), activated(load_f32(at), activation) * load_f32(at + 4 * width))
        column += block_threads()


@kernel(INT, INT, INT, INT, threads=256)
def activate(x, pitch, width, activation):
    """In place; blocks (rows)."""
    start_next()
    wait_for_previous()
    column = thread_index()
    while column < width:
        at = x + 4 * (pitch * block_index() + column)
        store_f32(at, activated(load_f32(at), activation))
        column += block_threads()


@kernel(INT, INT, INT, FLOAT, threads=256)
def soft_cap(x, pitch, width, cap):
    """In place; blocks (rows)."""
    start_next()
    wait_for_previous()
    column = thread_index()
    while column < width:
        at = x + 4 * (pitch * block_index() + column)
        store_f32(at, capped(load_f32(at), cap))
        column += block_threads()
