"""Packed FP8: for every pair of columns the codes of 32 rows, after all groups the scales of every group.

Codes are multiplied with float32 activations, column by column. A run of columns that share a scale is summed by
itself, then total = fma(sum, scale, total), for one row of activations as for many, so that both give the same bits.

    codes   [group][n_columns / 2][32 rows][2]
    scales  float32 [group][runs][32 rows]
"""

from ...compiler.entry import device, entry
from ...simd.arithmetic import fma, zero_float
from ...simd.control import call_unpack
from ...simd.fp8 import load_e4m3_lower, load_e4m3_upper, load_e5m2_lower, load_e5m2_upper
from ...simd.memory import load_i64, load_vector, prefetch, splat_load, store_vector
from ...simd.tile import HALVES, TOKENS
from .gemm import TILE_BYTES
from .output import N_COLUMNS, N_ROWS, OUT, SCALE_COLUMNS, WEIGHT, X, finish_pair, finish_tile
from .products import QUAD, add_runs, product_float, spill, zero_floats
from .shared import HELPER, N_ACTIVE, PREFETCH_AHEAD, SCRATCH, claim, end_of, first_of, local, row_count
from .simple_blocks import UNPACK


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
def run_of_columns(weights, x, n_columns, lower, upper, ahead):
    """The sums of 16 + 16 rows over an even number of columns."""
    low, high = zero_float(), zero_float()
    for _ in range(0, n_columns, 2):
        if ahead != 0:
            prefetch(weights + ahead)
        first, second = splat_load(x), splat_load(x + 4)
        low = fma(upper(weights), second, fma(lower(weights), first, low))
        high = fma(upper(weights + 32), second, fma(lower(weights + 32), first, high))
        weights, x = weights + 64, x + 8
    return low, high


@device
def matvec_fp8(op, frame, worker, lower, upper):
    """One row of activations by a packed FP8 matrix, split over groups of 32 rows."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    width, x = load_i64(op + SCALE_COLUMNS), local(op, frame, worker, load_i64(op + X))
    ahead = load_i64(worker + PREFETCH_AHEAD)
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            weights, scales = load_i64(op + WEIGHT) + 32 * n_columns * group, scales_of(op, group)
            low, high = zero_float(), zero_float()
            for first in range(0, n_columns, width):
                count = min(width, n_columns - first)
                a, b = run_of_columns(weights + 32 * first, x + 4 * first, count, lower, upper, ahead)
                low, high = fma(a, load_vector(scales), low), fma(b, load_vector(scales + 64), high)
                scales += 128
            finish_pair(op, low, high, load_i64(op + OUT), group)


@entry()
def matvec_fp8_e4m3(op, frame, worker):
    matvec_fp8(op, frame, worker, load_e4m3_lower, load_e4m3_upper)


@entry()
def matvec_fp8_e5m2(op, frame, worker):
    matvec_fp8(op, frame, worker, load_e5m2_lower, load_e5m2_upper)


@device
def unpack_fp8(source, n_columns, values, lower, upper):
    """float32 [n_columns][32 rows] of the codes alone."""
    for _ in range(0, n_columns, 2):
        store_vector(values, lower(source))
        store_vector(values + 64, lower(source + 32))
        store_vector(values + 128, upper(source))
        store_vector(values + 192, upper(source + 32))
        source, values = source + 64, values + 256


@entry(UNPACK)
def unpack_fp8_e4m3(source, n_columns, values, scales, minimums):
    unpack_fp8(source, n_columns, values, load_e4m3_lower, load_e4m3_upper)


@entry(UNPACK)
def unpack_fp8_e5m2(source, n_columns, values, scales, minimums):
    unpack_fp8(source, n_columns, values, load_e5m2_lower, load_e5m2_upper)


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
