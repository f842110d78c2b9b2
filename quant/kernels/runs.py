"""Sixteen runs side by side: lane r of every vector belongs to run r, so a search over runs needs no reductions.

A run is the 16 or 32 values that share a scale. A search works on a set of runs in scratch memory:

    SCRATCH + VALUES    vector j: value j of each run
            + WEIGHTS   vector j: its weight
            + PRODUCTS  vector j: value times weight
            + NATURAL   the values in the order of the row, where the set reaches past the end
            + CODES     the codes in the order of the row, one byte each
            + FIELDS    vectors with one number per run, for writing headers
"""

from numba import float32

from edgellama.compiler.entry import device
from edgellama.simd.arithmetic import fma, splat_float, zero_float
from edgellama.simd.memory import load_first, load_vector, store_vector

from ..scratch import SCRATCH_BYTES
from .lanes import LANES, VECTOR_BYTES, transpose

LONGEST = 32  # values
VALUES = 0
WEIGHTS = VALUES + LONGEST * VECTOR_BYTES
PRODUCTS = WEIGHTS + LONGEST * VECTOR_BYTES
NATURAL = PRODUCTS + LONGEST * VECTOR_BYTES
NATURAL_WEIGHTS = NATURAL + LONGEST * VECTOR_BYTES
CODES = NATURAL_WEIGHTS + LONGEST * VECTOR_BYTES
FIELDS = CODES + LONGEST * LANES
assert FIELDS + 16 * VECTOR_BYTES <= SCRATCH_BYTES


@device
def transpose_runs(source, length, target):
    """16 runs of 16 or 32 floats, one after the other -> `length` vectors."""
    for first in range(0, length, LANES):
        transpose(source + 4 * first, 4 * length, target + VECTOR_BYTES * first)


@device
def padded(source, n_values, wanted, target):
    """The address of `wanted` floats: those at source, or a copy at `target` that ends in zeros if there are fewer."""
    if n_values >= wanted:
        return source
    for i in range(0, wanted, LANES):
        store_vector(target + 4 * i, load_first(source + 4 * i, n_values - i))
    return target


@device
def gather_weights(importance, first, n_columns, n_values, length, target):
    """The weights of the values first .. first + n_values of whole rows; a run never crosses the end of a row."""
    for i in range(0, n_values, length):
        column = (first + i) % n_columns
        for j in range(0, length, LANES):
            store_vector(target + 4 * (i + j), load_vector(importance + 4 * (column + j)))


@device
def clear_weights(scratch):
    """Before the first set: every weight one. Sets with importance overwrite them."""
    for j in range(LONGEST):
        store_vector(scratch + WEIGHTS + VECTOR_BYTES * j, splat_float(float32(1.0)))


@device
def load_runs(source, importance, first, n_values, n_columns, length, scratch):
    """Fill VALUES, WEIGHTS and PRODUCTS with the 16 runs from value `first` on; the address of their values in order.

    Runs past the last value are zeros.
    """
    wanted = LANES * length
    present = min(n_values - first, wanted)
    values = padded(source + 4 * first, present, wanted, scratch + NATURAL)
    transpose_runs(values, length, scratch + VALUES)
    if importance != 0:
        gather_weights(importance, first, n_columns, present, length, scratch + NATURAL_WEIGHTS)
        transpose_runs(scratch + NATURAL_WEIGHTS, length, scratch + WEIGHTS)
    for at in range(scratch, scratch + VECTOR_BYTES * length, VECTOR_BYTES):
        store_vector(at + PRODUCTS, load_vector(at + WEIGHTS) * load_vector(at))
    return values


@device
def run_sums(scratch, length):
    """Per run: the sums of w, w x and w x^2."""
    w_sum, x_sum, xx_sum = zero_float(), zero_float(), zero_float()
    for at in range(scratch, scratch + VECTOR_BYTES * length, VECTOR_BYTES):
        product = load_vector(at + PRODUCTS)
        w_sum = w_sum + load_vector(at + WEIGHTS)
        x_sum = x_sum + product
        xx_sum = fma(product, load_vector(at), xx_sum)
    return w_sum, x_sum, xx_sum
