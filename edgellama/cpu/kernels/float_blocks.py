"""Packed F32, F16 and BF16: for every column the values of 32 rows; products in float32, column by column.

A group of 32 rows is [n_columns][32 values]. One accumulator a row, columns added in order, for one row of
activations as for many, so that both give the same bits.
"""

from ...compiler.entry import device, entry
from ...simd.arithmetic import fma, zero_float
from ...simd.control import call_unpack
from ...simd.memory import (
    load_bfloats,
    load_halves,
    load_i64,
    load_vector,
    prefetch,
    splat_load,
    store_vector,
)
from ...simd.tile import HALVES, TOKENS
from .gemm import TILE_BYTES
from .output import N_COLUMNS, N_ROWS, OUT, ROW_BYTES, WEIGHT, X, finish_pair, finish_tile
from .products import product_float, spill
from .shared import HELPER, N_ACTIVE, PREFETCH_AHEAD, SCRATCH, claim, end_of, first_of, local, row_count
from .simple_blocks import UNPACK


@device
def both_f32(weights):
    return load_vector(weights), load_vector(weights + 64)


@device
def both_f16(weights):
    return load_halves(weights), load_halves(weights + 32)


@device
def both_bf16(weights):
    return load_bfloats(weights), load_bfloats(weights + 32)


@device
def matvec_float(op, frame, worker, both, column_bytes):
    """One row of activations by a packed float matrix, split over groups of 32 rows."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    x, ahead = local(op, frame, worker, load_i64(op + X)), load_i64(worker + PREFETCH_AHEAD)
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            weights = load_i64(op + WEIGHT) + group * n_columns * column_bytes
            low, high = zero_float(), zero_float()
            for column in range(n_columns):
                if ahead != 0:
                    prefetch(weights + ahead)
                a, b = both(weights)
                value = splat_load(x + 4 * column)
                low, high = fma(a, value, low), fma(b, value, high)
                weights += column_bytes
            finish_pair(op, low, high, load_i64(op + OUT), group)


@entry()
def matvec_f32(op, frame, worker):
    matvec_float(op, frame, worker, both_f32, 128)


@entry()
def matvec_f16(op, frame, worker):
    matvec_float(op, frame, worker, both_f16, 64)


@entry()
def matvec_bf16(op, frame, worker):
    matvec_float(op, frame, worker, both_bf16, 64)


@device
def unpack_float(source, n_columns, values, both, column_bytes):
    for column in range(n_columns):
        a, b = both(source + column * column_bytes)
        store_vector(values + 128 * column, a)
        store_vector(values + 128 * column + 64, b)


@entry(UNPACK)
def unpack_f32(source, n_columns, values, scales, minimums):
    unpack_float(source, n_columns, values, both_f32, 128)


@entry(UNPACK)
def unpack_f16(source, n_columns, values, scales, minimums):
    unpack_float(source, n_columns, values, both_f16, 64)


@entry(UNPACK)
def unpack_bf16(source, n_columns, values, scales, minimums):
    unpack_float(source, n_columns, values, both_bf16, 64)


@device
def float_group_by_panels(op, frame, worker, group, values, tile):
    """One unpacked row group of floats by every panel."""
    n_columns, n_tokens = load_i64(op + N_COLUMNS), row_count(op, frame)
    panel = local(op, frame, worker, load_i64(op + X))
    for first in range(0, n_tokens, TOKENS):
        for half in range(0, 2, HALVES):
            spill(product_float(values + 64 * half, panel, n_columns), tile + 64 * half)
        finish_tile(op, tile, group, first, min(TOKENS, n_tokens - first))
        panel += 4 * TOKENS * n_columns


@entry()
def gemm_float(op, frame, worker):
    """Many rows of activations by a packed float matrix."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    tile = load_i64(worker + SCRATCH)
    values = tile + TILE_BYTES
    group_bytes = 32 * load_i64(op + ROW_BYTES)
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            source = load_i64(op + WEIGHT) + group * group_bytes
            call_unpack(load_i64(op + HELPER), source, n_columns, values, 0, 0)
            float_group_by_panels(op, frame, worker, group, values, tile)
