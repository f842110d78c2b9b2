"""Many rows of activations by a matrix: unpack a row group once, then run a register tile over all panels.

A format supplies an unpacker(source, n_columns, ints, scales, minimums) that writes, for 32 rows,
    ints      uint8 [n_columns/4][2][16 rows][4]   code of the weight, zero point included
    scales    float32 [blocks][2][16]              a block is 32 columns, or 16 where the format says so
    minimums  float32 [blocks][2][16]              negated, for formats with a minimum
into this worker's scratch. Sums are added block by block in the order of matvec: the same bits for one row or many.
"""

from ...compiler.entry import device, entry
from ...simd.control import call_unpack
from ...simd.memory import load_i64
from ...simd.tile import (
    HALVES,
    TOKENS,
    add_outer,
    add_scaled,
    dot_tile,
    dot_tile_small,
    load_halves_f32,
    spill,
    start_ints,
    zero_floats,
    zero_ints,
)
from ..layout import (
    BLOCK,
    N_FIELDS,
    NEGATIVE_SUM,
    NEGATIVE_SUM_16,
    SCALE,
    SCALED_SUM,
    SCALED_SUM_16,
    panel_bytes,
)
from .output import N_COLUMNS, N_ROWS, ROW_BYTES, WEIGHT, X, finish_tile
from .shared import HELPER, N_ACTIVE, SCRATCH, claim, end_of, first_of, local, row_count

QUAD = 4 * TOKENS  # bytes from one quad of columns to the next in a panel, and from one field to the next
BYTES_PER_BLOCK = panel_bytes(BLOCK, 1) * TOKENS
TILE_BYTES = 128 * TOKENS


@device
def product_zero_8(ints, scales, minimums, x, fields, n_blocks):
    """Codes 0..15 around 8, one scale per 32 (Q4_0)."""
    total = zero_floats()
    for _ in range(n_blocks):
        acc = start_ints(fields + NEGATIVE_SUM * QUAD, 3)
        for _ in range(8):
            acc = dot_tile_small(acc, ints, x)
            ints, x = ints + 128, x + QUAD
        total = add_scaled(total, acc, load_halves_f32(scales), fields + SCALE * QUAD)
        scales, fields = scales + 128, fields + N_FIELDS * QUAD
    return total


@device
def product_zero_128(ints, scales, minimums, x, fields, n_blocks):
    """Codes 0..255 around 128, one scale per 32 (Q8_0)."""
    total = zero_floats()
    for _ in range(n_blocks):
        acc = start_ints(fields + NEGATIVE_SUM * QUAD, 7)
        for _ in range(8):
            acc = dot_tile(acc, ints, x)
            ints, x = ints + 128, x + QUAD
        total = add_scaled(total, acc, load_halves_f32(scales), fields + SCALE * QUAD)
        scales, fields = scales + 128, fields + N_FIELDS * QUAD
    return total


@device
def product_minimum(ints, scales, minimums, x, fields, n_blocks):
    """Codes 0..31, one scale and one minimum per 32 (Q4_1, Q4_K, Q5_K)."""
    total = zero_floats()
    for _ in range(n_blocks):
        acc = zero_ints()
        for _ in range(8):
            acc = dot_tile_small(acc, ints, x)
            ints, x = ints + 128, x + QUAD
        total = add_scaled(total, acc, load_halves_f32(scales), fields + SCALE * QUAD)
        total = add_outer(total, load_halves_f32(minimums), fields + SCALED_SUM * QUAD)
        scales, minimums, fields = scales + 128, minimums + 128, fields + N_FIELDS * QUAD
    return total


@device
def product_zero_32_by_16(ints, scales, minimums, x, fields, n_blocks):
    """Codes 0..63 around 32, one scale per 16 (Q6_K)."""
    total = zero_floats()
    for _ in range(n_blocks):
        for half in range(2):
            acc = start_ints(fields + (NEGATIVE_SUM_16 + half) * QUAD, 5)
            for _ in range(4):
                acc = dot_tile_small(acc, ints, x)
                ints, x = ints + 128, x + QUAD
            total = add_scaled(total, acc, load_halves_f32(scales), fields + SCALE * QUAD)
            scales += 128
        fields += N_FIELDS * QUAD
    return total


@device
def product_any(ints, scales, minimums, x, fields, n_blocks):
    """Codes 0..255 around 128, one scale and one minimum per 16: what every integer format can be written as."""
    total = zero_floats()
    for _ in range(n_blocks):
        for half in range(2):
            acc = start_ints(fields + (NEGATIVE_SUM_16 + half) * QUAD, 7)
            for _ in range(4):
                acc = dot_tile(acc, ints, x)
                ints, x = ints + 128, x + QUAD
            total = add_scaled(total, acc, load_halves_f32(scales), fields + SCALE * QUAD)
            total = add_outer(total, load_halves_f32(minimums), fields + (SCALED_SUM_16 + half) * QUAD)
            scales, minimums = scales + 128, minimums + 128
        fields += N_FIELDS * QUAD
    return total


@device
def group_by_panels(op, frame, worker, group, product, ints, scales, minimums, tile):
    """One unpacked row group by every panel."""
    n_columns, n_tokens = load_i64(op + N_COLUMNS), row_count(op, frame)
    n_blocks = n_columns // BLOCK
    panel = local(op, frame, worker, load_i64(op + X))
    for first in range(0, n_tokens, TOKENS):
        for half in range(0, 2, HALVES):
            at = 64 * half
            fields = panel + n_columns * TOKENS
            spill(product(ints + at, scales + at, minimums + at, panel, fields, n_blocks), tile + at)
        finish_tile(op, tile, group, first, min(TOKENS, n_tokens - first))
        panel += n_blocks * BYTES_PER_BLOCK


@device
def gemm(op, frame, worker, product, blocks_per_32):
    """Split over row groups of 32."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    tile = load_i64(worker + SCRATCH)
    ints = tile + TILE_BYTES
    scales = ints + 32 * n_columns
    minimums = scales + n_columns // BLOCK * blocks_per_32 * 128
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            source = load_i64(op + WEIGHT) + group * 32 * load_i64(op + ROW_BYTES)
            call_unpack(load_i64(op + HELPER), source, n_columns, ints, scales, minimums)
            group_by_panels(op, frame, worker, group, product, ints, scales, minimums, tile)


@entry()
def gemm_zero_8(op, frame, worker):
    gemm(op, frame, worker, product_zero_8, 1)


@entry()
def gemm_zero_128(op, frame, worker):
    gemm(op, frame, worker, product_zero_128, 1)


@entry()
def gemm_minimum(op, frame, worker):
    gemm(op, frame, worker, product_minimum, 1)


@entry()
def gemm_zero_32_by_16(op, frame, worker):
    gemm(op, frame, worker, product_zero_32_by_16, 2)
