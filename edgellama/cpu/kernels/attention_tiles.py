"""Scores and weighted sums of one cache page: rows of queries or probabilities by a page of keys or values.

One kernel text for both cache types: a type is a pair of tile primitives (simd/outer.py) and the places of its
codes and scales. Every sum runs over dimensions or positions in order, so no result depends on the tiling.
"""

from ...compiler.entry import device
from ...frame import PAGE_POSITIONS
from ...simd.outer import READERS, make_outer
from ...simd.target import current
from .rope_store import padded

ROWS, VECTORS = current().outer_rows, current().outer_vectors
ROW_SCORES = 4 * PAGE_POSITIONS  # bytes of one row of scores

key_zero_f16, key_step_f16, key_store_f16 = make_outer(ROWS, 1, READERS["f16"][0])
key_zero_q8, key_step_q8, key_store_q8 = make_outer(ROWS, 1, READERS["q8_0"][0])
value_zero_f16, value_step_f16, value_store_f16 = make_outer(ROWS, VECTORS, READERS["f16"][1])
tail_zero_f16, tail_step_f16, tail_store_f16 = make_outer(ROWS, 1, READERS["f16"][1])
tail_zero_q8, tail_step_q8, tail_store_q8 = make_outer(ROWS, 1, READERS["q8_0"][1])


@device
def scores_f16(queries, keys, scores, n_rows, key_dim, n_groups):
    """scores[row][position] for n_groups x 16 positions; queries float32 [n_rows][key_dim], n_rows % ROWS == 0."""
    for group in range(n_groups):
        for row in range(0, n_rows, ROWS):
            total = key_zero_f16()
            query, key = queries + 4 * key_dim * row, keys + 32 * key_dim * group
            for _ in range(key_dim):
                total = key_step_f16(total, query, 4 * key_dim, key, 0, 0, 0)
                query, key = query + 4, key + 32
            key_store_f16(total, scores + ROW_SCORES * row + 64 * group, ROW_SCORES, 0)


@device
def scores_q8(queries, keys, scores, n_rows, key_dim, n_groups):
    width = padded(key_dim, 32)
    scales = keys + PAGE_POSITIONS * width
    for group in range(n_groups):
        for row in range(0, n_rows, ROWS):
            total = key_zero_q8()
            query, key = queries + 4 * key_dim * row, keys + 16 * width * group
            for i in range(key_dim):
                scale = scales + width * group + (i >> 5 << 5)
                total = key_step_q8(total, query, 4 * key_dim, key, 0, scale, 0)
                query, key = query + 4, key + 16
            key_store_q8(total, scores + ROW_SCORES * row + 64 * group, ROW_SCORES, 0)


@device
def weighted_f16(probabilities, values, out, n_rows, value_dim, n_positions):
    """out[row][dimension] = sum over positions of probability * value; out float32 [n_rows][padded value_dim]."""
    width = padded(value_dim, 16)
    for row in range(0, n_rows, ROWS):
        first = 0
        while first + 16 * VECTORS <= width:
            total = value_zero_f16()
            probability, value = probabilities + ROW_SCORES * row, values + 2 * first
            for _ in range(n_positions):
                total = value_step_f16(total, probability, ROW_SCORES, value, 32, 0, 0)
                probability, value = probability + 4, value + 2 * width
            value_store_f16(total, out + 4 * (width * row + first), 4 * width, 64)
            first += 16 * VECTORS
        while first < width:
            rest = tail_zero_f16()
            probability, value = probabilities + ROW_SCORES * row, values + 2 * first
            for _ in range(n_positions):
                rest = tail_step_f16(rest, probability, ROW_SCORES, value, 0, 0, 0)
                probability, value = probability + 4, value + 2 * width
            tail_store_f16(rest, out + 4 * (width * row + first), 4 * width, 0)
            first += 16


@device
def weighted_q8(probabilities, values, out, n_rows, value_dim, n_positions):
    """As weighted_f16, 16 dimensions at a time: a vector never spans two scales."""
    width, blocks = padded(value_dim, 32), padded(value_dim, 32) // 32
    out_width = padded(value_dim, 16)
    for row in range(0, n_rows, ROWS):
        for first in range(0, out_width, 16):
            total = tail_zero_q8()
            probability, value = probabilities + ROW_SCORES * row, values + first
            scale = values + PAGE_POSITIONS * width + 2 * (first >> 5)
            for _ in range(n_positions):
                total = tail_step_q8(total, probability, ROW_SCORES, value, 0, scale, 0)
                probability, value, scale = probability + 4, value + width, scale + 2 * blocks
            tail_store_q8(total, out + 4 * (out_width * row + first), 4 * out_width, 0)
