"""One row of activations in the shared memory of a block: normed, as int8 with a scale for each 32, or as floats."""

from numba import float32

from ...compiler.entry import device
from ..simt.thread import (
    block_barrier,
    block_threads,
    constant_f32,
    constant_words,
    load_f32,
    load_floats,
    reciprocal_root,
    shared_store_floats,
    shared_store_i32,
    shuffle_xor,
    thread_index,
)
from ..simt.vectors import (
    first,
    floats_of,
    fma4,
    fourth,
    larger,
    magnitude,
    round_to_int,
    second,
    splat4,
    sum4,
    third,
    vector4,
    zero4,
)
from .constants import LARGEST_CODE, ONE, ZERO
from .reduce import block_sum


@device
def norm_factor(x, norm, n_columns, epsilon, scratch):
    """1 / sqrt(mean(x^2) + epsilon), or 1 without a norm."""
    if norm == 0:
        return ONE
    total, column = zero4(0), 4 * thread_index()
    while column < n_columns:
        values = activation4(x, 0, ONE, column, n_columns)
        total = fma4(values, values, total)
        column += 4 * block_threads()
    return reciprocal_root(block_sum(sum4(total), scratch) / float32(n_columns) + epsilon)


@device
def activation(x, norm, factor, column, n_columns):
    """x[column], normed; zero where the last block of 32 is padded."""
    if column >= n_columns:
        return ZERO
    value = load_f32(x + 4 * column)
    return value if norm == 0 else value * factor * constant_f32(norm + 4 * column)


@device
def activation4(x, norm, factor, column, n_columns):
    """Four of them, in one load where they lie so; `column` is a multiple of 4."""
    at = x + 4 * column
    if column + 4 <= n_columns and at & 15 == 0:
        values = load_floats(at)
        if norm != 0:
            values = values * splat4(factor) * floats_of(constant_words(norm + 4 * column))
        return values
    return vector4(
        activation(x, norm, factor, column, n_columns),
        activation(x, norm, factor, column + 1, n_columns),
        activation(x, norm, factor, column + 2, n_columns),
        activation(x, norm, factor, column + 3, n_columns),
    )


@device
def largest_of_eight(values):
    """The largest magnitude of 32 values that eight lanes hold, in each of them."""
    largest = larger(
        larger(magnitude(first(values)), magnitude(second(values))),
        larger(magnitude(third(values)), magnitude(fourth(values))),
    )
    largest = larger(largest, shuffle_xor(largest, 1))
    largest = larger(largest, shuffle_xor(largest, 2))
    return larger(largest, shuffle_xor(largest, 4))


@device
def integer_activations(x, norm, n_columns, epsilon, shared):
    """int8 [2 halves][n_blocks][16], then (scale, scale * sum of 16, scale * sum of the other 16, 0) a block.

    Eight lanes have a block, four columns each, so that few loads wait for each other.
    """
    n, member = (n_columns + 31) >> 5, thread_index() & 7
    fields, scratch = shared + 32 * n, shared + 48 * n
    factor = norm_factor(x, norm, n_columns, epsilon, scratch)
    first_block = (thread_index() >> 5) * 4
    while first_block < n:  # alike for all lanes of a warp, which shuffle
        block = first_block + ((thread_index() & 31) >> 3)
        values = activation4(x, norm, factor, 32 * block + 4 * member, n_columns)
        largest = largest_of_eight(values)
        inverse = LARGEST_CODE / largest if largest > ZERO else ZERO
        a, b = round_to_int(first(values) * inverse), round_to_int(second(values) * inverse)
        c, d = round_to_int(third(values) * inverse), round_to_int(fourth(values) * inverse)
        scale = largest * float32(1 / 127)
        total = float32(a + b + c + d)
        total += shuffle_xor(total, 1)
        sums = scale * (total + shuffle_xor(total, 2))
        others = shuffle_xor(sums, 4)
        if block < n:
            codes = a & 255 | (b & 255) << 8 | (c & 255) << 16 | (d & 255) << 24
            shared_store_i32(shared + 16 * ((member >> 2) * n + block) + 4 * (member & 3), codes)
            if member == 0:
                shared_store_floats(fields + 16 * block, vector4(scale, sums, others, ZERO))
        first_block += (block_threads() >> 5) * 4
    block_barrier()


@device
def float_activations(x, norm, n_columns, epsilon, shared):
    """float32 [8 pieces][n_blocks][4]."""
    n = (n_columns + 31) >> 5
    factor = norm_factor(x, norm, n_columns, epsilon, shared + 128 * n)
    column = 4 * thread_index()
    while column < 32 * n:
        at = 16 * (((column & 31) >> 2) * n + (column >> 5))
        shared_store_floats(shared + at, activation4(x, norm, factor, column, n_columns))
        column += 4 * block_threads()
    block_barrier()
