"""Scores and weighted sums of one cache page: rows of queries or probabilities by a page of keys or values.

One text for every cache type: a type is how 16 values are read (simd/outer.py) and how wide they are. Every sum runs
over dimensions or positions in order, so no result depends on the tiling. Page layout: cache_layout.py.
"""

from numba import types

from ...cache_layout import VALUE_BYTES
from ...compiler.entry import device, entry, intp
from ...frame import PAGE_POSITIONS
from ...simd.outer import READERS, make_outer
from ...simd.target import OUTER_ROWS, current

ROWS, WIDE_ROWS, VECTORS = OUTER_ROWS, current().outer_wide_rows, current().outer_vectors
ROW_SCORES = 4 * PAGE_POSITIONS  # bytes of one row of scores
TILE = types.void(*[intp] * 6)


@device
def padded(width, to):
    return (width + to - 1) // to * to


def make_scores(kv_type: str) -> None:
    """Export scores_<kv_type>."""
    zero, step, store = make_outer(ROWS, 1, READERS[kv_type][0])
    zero_wide, step_wide, store_wide = make_outer(WIDE_ROWS, 1, READERS[kv_type][0])
    pad, bytes_each = (32 if kv_type == "q8_0" else 1), VALUE_BYTES[kv_type]

    @device
    def scores_part(zero, step, store, query, key, out, key_dim, scales):
        """16 positions of a few rows; the scales of 32 dimensions lie 32 bytes apart."""
        total = zero()
        for i in range(key_dim):
            total = step(total, query, 4 * key_dim, key, 0, scales + (i >> 5 << 5), 0)
            query, key = query + 4, key + 16 * bytes_each
        store(total, out, ROW_SCORES, 0)

    @entry(TILE, name=f"scores_{kv_type}")
    def scores(queries, keys, out, n_rows, key_dim, n_groups):
        """out[row][position] for n_groups x 16 positions; queries float32 [n_rows][key_dim], n_rows % ROWS == 0."""
        width = padded(key_dim, pad)
        for group in range(n_groups):
            key, scales = keys + 16 * bytes_each * width * group, keys + width * (PAGE_POSITIONS + group)
            row = 0
            while row + WIDE_ROWS <= n_rows:
                query, scores_at = queries + 4 * key_dim * row, out + ROW_SCORES * row + 64 * group
                scores_part(zero_wide, step_wide, store_wide, query, key, scores_at, key_dim, scales)
                row += WIDE_ROWS
            while row < n_rows:
                query, scores_at = queries + 4 * key_dim * row, out + ROW_SCORES * row + 64 * group
                scores_part(zero, step, store, query, key, scores_at, key_dim, scales)
                row += ROWS


def make_weighted(kv_type: str) -> None:
    """Export weighted_<kv_type>."""
    vectors = min(VECTORS, 2) if kv_type == "q8_0" else VECTORS  # vectors of one step share a scale
    zero, step, store = make_outer(ROWS, vectors, READERS[kv_type][1])
    zero_one, step_one, store_one = make_outer(ROWS, 1, READERS[kv_type][1])
    pad, bytes_each = (32 if kv_type == "q8_0" else 16), VALUE_BYTES[kv_type]

    @device
    def weighted_part(zero, step, store, probabilities, values, out, width, out_width, first, n_positions):
        """Dimensions first.. of ROWS rows, n_vectors x 16 of them."""
        total = zero()
        value = values + bytes_each * first
        scale = values + PAGE_POSITIONS * width + 2 * (first >> 5)
        for _ in range(n_positions):
            total = step(total, probabilities, ROW_SCORES, value, 16 * bytes_each, scale, 0)
            probabilities, value, scale = probabilities + 4, value + bytes_each * width, scale + 2 * (width >> 5)
        store(total, out + 4 * first, 4 * out_width, 64)

    @entry(TILE, name=f"weighted_{kv_type}")
    def weighted(probabilities, values, out, n_rows, value_dim, n_positions):
        """out[row][dimension] = sum over positions of probability * value; float32 [n_rows][padded value_dim]."""
        width, out_width = padded(value_dim, pad), padded(value_dim, 16)
        for row in range(0, n_rows, ROWS):
            p, o = probabilities + ROW_SCORES * row, out + 4 * out_width * row
            first = 0
            while first + 16 * vectors <= out_width:
                weighted_part(zero, step, store, p, values, o, width, out_width, first, n_positions)
                first += 16 * vectors
            while first < out_width:
                weighted_part(zero_one, step_one, store_one, p, values, o, width, out_width, first, n_positions)
                first += 16


for _kv_type in VALUE_BYTES:
    make_scores(_kv_type)
    make_weighted(_kv_type)
