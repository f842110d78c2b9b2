"""Packed FP8: for every four columns the codes of 32 rows, after all groups the scales of every group.

Codes are multiplied with float32 activations, column by column. A run of columns that share a scale is summed by
itself, then total = fma(sum, scale, total), for one row of activations as for many, so that both give the same bits.

    codes   [group][n_columns / 4][2 halves][16 rows][4]
    scales  float32 [group][runs][32 rows]
"""

from numba import float32

from ...compiler.entry import device, entry
from ...simd.arithmetic import fma, splat_float, zero_float
from ...simd.control import call_unpack
from ...simd.fp8 import TINY_E4M3, TINY_E5M2, load_e4m3, load_e5m2
from ...simd.memory import load_first, load_i64, load_vector, splat_load, store_vector
from ...simd.tile import HALVES, TOKENS
from .gemm import TILE_BYTES
from .output import N_COLUMNS, N_ROWS, OUT, SCALE_COLUMNS, WEIGHT, X, finish_pair, finish_tile
from .products import QUAD, add_runs, product_float, spill, zero_floats
from .shared import HELPER, N_ACTIVE, PREFETCH_AHEAD, SCRATCH, claim, end_of, first_of, local, row_count
from .simple_blocks import UNPACK
from .streams import prefetch_lines

LARGER = 2.0**64  # on activations: the products with tiny weights are then as far from overflow as from underflow
SMALLER_E4M3, SMALLER_E5M2 = 1 / (TINY_E4M3 * LARGER), 1 / (TINY_E5M2 * LARGER)  # on sums
WHOLE_E4M3, WHOLE_E5M2 = 1 / TINY_E4M3, 1 / TINY_E5M2  # on weights


@device
def scales_of(op, group):
    """Where the scales of a group begin, after the codes of all groups."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    return load_i64(op + WEIGHT) + 32 * n_columns * n_groups + 128 * group * run_count(op)


@device
def run_count(op):
    width = load_i64(op + SCALE_COLUMNS)
    return (load_i64(op + N_COLUMNS) + width - 1) // width


@device
def enlarge(x, n_columns, target):
    """A copy of the activations, times LARGER."""
    factor = splat_float(float32(LARGER))
    for first in range(0, n_columns, 16):
        store_vector(target + 4 * first, load_first(x + 4 * first, n_columns - first) * factor)


@device
def add_four(total, weights, x, load):
    """total + four columns of 16 rows."""
    first, second, third, fourth = load(weights)
    total = fma(second, splat_load(x + 4), fma(first, splat_load(x), total))
    return fma(fourth, splat_load(x + 12), fma(third, splat_load(x + 8), total))


@device
def run_of_columns(weights, x, n_columns, load, ahead):
    """The sums of 16 + 16 rows over a multiple of four columns."""
    low, high = zero_float(), zero_float()
    for _ in range(0, n_columns, 4):
        prefetch_lines(weights, 128, ahead)
        low, high = add_four(low, weights, x, load), add_four(high, weights + 64, x, load)
        weights, x = weights + 128, x + 16
    return low, high


@device
def matvec_fp8(op, frame, worker, load, smaller):
    """One row of activations by a packed FP8 matrix, split over groups of 32 rows."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    width, factor = load_i64(op + SCALE_COLUMNS), splat_float(float32(smaller))
    x, ahead = load_i64(worker + SCRATCH), load_i64(worker + PREFETCH_AHEAD)
    enlarge(local(op, frame, worker, load_i64(op + X)), n_columns, x)
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            weights, scales = load_i64(op + WEIGHT) + 32 * n_columns * group, scales_of(op, group)
            low, high = zero_float(), zero_float()
            for first in range(0, n_columns, width):
                count = min(width, n_columns - first)
                a, b = run_of_columns(weights + 32 * first, x + 4 * first, count, load, ahead)
                low = fma(a * factor, load_vector(scales), low)
                high = fma(b * factor, load_vector(scales + 64), high)
                scales += 128
            finish_pair(op, low, high, load_i64(op + OUT), group)


@entry()
def matvec_fp8_e4m3(op, frame, worker):
    matvec_fp8(op, frame, worker, load_e4m3, SMALLER_E4M3)


@entry()
def matvec_fp8_e5m2(op, frame, worker):
    matvec_fp8(op, frame, worker, load_e5m2, SMALLER_E5M2)


@device
def unpack_fp8(source, n_columns, values, load, whole):
    """float32 [n_columns][32 rows] of the codes alone."""
    factor = splat_float(float32(whole))
    for _ in range(0, n_columns, 4):
        for half in range(0, 128, 64):
            first, second, third, fourth = load(source + half)
            store_vector(values + half, first * factor)
            store_vector(values + half + 128, second * factor)
            store_vector(values + half + 256, third * factor)
            store_vector(values + half + 384, fourth * factor)
        source, values = source + 128, values + 512


@entry(UNPACK)
def unpack_fp8_e4m3(source, n_columns, values, scales, minimums):
    unpack_fp8(source, n_columns, values, load_e4m3, WHOLE_E4M3)


@entry(UNPACK)
def unpack_fp8_e5m2(source, n_columns, values, scales, minimums):
    unpack_fp8(source, n_columns, values, load_e5m2, WHOLE_E5M2)


@device
def fp8_group_by_panels(op, frame, worker, group, values, tile):
    """One unpacked row group by every panel."""
    n_columns, n_tokens, width = load_i64(op + N_COLUMNS), row_count(op, frame), load_i64(op + SCALE_COLUMNS)
    panel = local(op, frame, worker, load_i64(op + X))
    for first_token in range(0, n_tokens, TOKENS):
        for half in range(0, 2, HALVES):
            scales = scales_of(op, group) + 64 * half
            spill(zero_floats(), tile + 64 * half)
            for first in range(0, n_columns, width):
                sums = product_float(
                    values + 128 * first + 64 * half, panel + QUAD * first, min(width, n_columns - first)
                )
                add_runs(sums, scales, tile + 64 * half)
                scales += 128
        finish_tile(op, tile, group, first_token, min(TOKENS, n_tokens - first_token))
        panel += QUAD * n_columns


@entry()
def gemm_fp8(op, frame, worker):
    """Many rows of activations by a packed FP8 matrix."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    tile = load_i64(worker + SCRATCH)
    values = tile + TILE_BYTES
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            source = load_i64(op + WEIGHT) + 32 * n_columns * group
            call_unpack(load_i64(op + HELPER), source, n_columns, values, 0, 0)
            fp8_group_by_panels(op, frame, worker, group, values, tile)
