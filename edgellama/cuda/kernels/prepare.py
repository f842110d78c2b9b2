"""Rows of activations as halves, the form in which products of many rows take them.

A row is stored over a power of two that keeps its largest value near 1, so that no half overflows; the power is kept
beside it. What an integer product would have rounded to int8 is rounded alike here.
"""

from numba import float32

from ...compiler.entry import device
from ..simt.thread import (
    block_index,
    block_threads,
    shared_memory,
    start_next,
    store_f32,
    store_u16,
    thread_index,
    wait_for_previous,
)
from ..simt.vectors import bits_of, float_of_bits, larger, magnitude, pack_two, round_to_int
from .constants import LARGEST_CODE, ONE, ZERO
from .launch import FLOAT, INT, kernel
from .one_row import activation, norm_factor
from .reduce import block_max, warp_max

THREADS = 256


@device
def power_above(x):
    """A power of two in (x, 2 x], for a normal x; 1 for 0."""
    exponent = (bits_of(x) >> 23) & 255
    return float_of_bits((exponent + 1) << 23) if exponent > 0 and exponent < 254 else ONE


@kernel(INT, INT, INT, INT, INT, INT, INT, INT, FLOAT, threads=THREADS)
def prepare(x, norm, out, powers, n_columns, pitch, out_columns, is_integer, epsilon):
    """Row block_index() of x (pitch) to out (out_columns halves, zeros behind n_columns) and powers[row]."""
    start_next()
    wait_for_previous()
    row, scratch = block_index(), shared_memory()
    source, target = x + 4 * pitch * row, out + 2 * out_columns * row
    factor = norm_factor(source, norm, n_columns, epsilon, scratch)
    largest, column = ZERO, thread_index()
    while column < n_columns:
        largest = larger(magnitude(activation(source, norm, factor, column, n_columns)), largest)
        column += block_threads()
    power = power_above(block_max(largest, scratch))
    if thread_index() == 0:
        store_f32(powers + 4 * row, power)
    inverse_power, column = ONE / power, thread_index()
    while column < out_columns:  # a multiple of 32: a warp has a block of 32
        value = activation(source, norm, factor, column, n_columns)
        if is_integer != 0:
            most = warp_max(magnitude(value))
            inverse = LARGEST_CODE / most if most > ZERO else ZERO
            value = float32(round_to_int(value * inverse)) * (most * float32(1 / 127))
        store_u16(target + 2 * column, pack_two(value * inverse_power, ZERO) & 0xFFFF)
        column += block_threads()
