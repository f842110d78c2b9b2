"""Norms that are launches of their own: of what others than products read, with a mean, or added to something."""

from numba import float32

from ...compiler.entry import device
from ..simt.thread import (
    block_index,
    block_threads,
    constant_f32,
    load_f32,
    load_i32,
    reciprocal_root,
    shared_memory,
    start_next,
    store_f32,
    thread_index,
    wait_for_previous,
)
from ..simt.vectors import fma
from .constants import ZERO
from .launch import FLOAT, INT, kernel
from .one_row import activation, norm_factor
from .reduce import block_sum

THREADS = 256


@kernel(INT, INT, INT, INT, INT, INT, INT, FLOAT, threads=THREADS)
def norm_rows(x, norm, out, n_columns, pitch, out_pitch, adds, epsilon):
    """Row block_index() of x, normed (or as it is without a norm), to out; with `adds`, added to it."""
    start_next()
    wait_for_previous()
    row = block_index()
    source, target = x + 4 * pitch * row, out + 4 * out_pitch * row
    factor = norm_factor(source, norm, n_columns, epsilon, shared_memory())
    column = thread_index()
    while column < n_columns:
        value = activation(source, norm, factor, column, n_columns)
        if adds != 0:
            value += load_f32(target + 4 * column)
        store_f32(target + 4 * column, value)
        column += block_threads()


@device
def row_sum(x, n_columns, shift, squared, scratch):
    """Sum of (x - shift), or of its squares."""
    total, column = ZERO, thread_index()
    while column < n_columns:
        value = load_f32(x + 4 * column) - shift
        total = fma(value, value, total) if squared else total + value
        column += block_threads()
    return block_sum(total, scratch)


@kernel(INT, INT, INT, INT, INT, INT, INT, FLOAT, threads=THREADS)
def layer_norm(x, weight, bias, out, n_columns, pitch, out_pitch, epsilon):
    """Row block_index() of x: (x - mean) / sqrt(variance + epsilon) * weight (+ bias)."""
    start_next()
    wait_for_previous()
    row, scratch = block_index(), shared_memory()
    source, target = x + 4 * pitch * row, out + 4 * out_pitch * row
    mean = row_sum(source, n_columns, ZERO, False, scratch) / float32(n_columns)
    variance = row_sum(source, n_columns, mean, True, scratch) / float32(n_columns)
    factor, column = reciprocal_root(variance + epsilon), thread_index()
    while column < n_columns:
        value = (load_f32(source + 4 * column) - mean) * factor * constant_f32(weight + 4 * column)
        if bias != 0:
            value += constant_f32(bias + 4 * column)
        store_f32(target + 4 * column, value)
        column += block_threads()


@kernel(INT, INT, INT, INT, threads=THREADS)
def add_positions(x, table, positions, width):
    """x[t] += table[position[t]]; blocks (tokens)."""
    start_next()
    wait_for_previous()
    row, column = block_index(), thread_index()
    source = table + 4 * width * load_i32(positions + 4 * row)
    while column < width:
        at = x + 4 * (width * row + column)
        store_f32(at, load_f32(at) + constant_f32(source + 4 * column))
        column += block_threads()
