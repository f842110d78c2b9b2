"""Many rows of activations by a matrix: unpack a row group once, then run a register tile over all panels.

A format supplies an unpacker(source, n_columns, ints, scales, minimums) that writes, for 32 rows, what
cpu/kernels/products.py reads, into this worker's scratch. One row or many: the sums have the same bits.
"""

from ...compiler.entry import device, entry
from ...simd.control import call_unpack
from ...simd.memory import load_i64
from ...simd.tile import HALVES, TOKENS
from ..layout import BLOCK, panel_bytes
from .output import N_COLUMNS, N_ROWS, ROW_BYTES, WEIGHT, X, finish_tile
from .products import product_minimum, product_zero_8, product_zero_32_by_16, product_zero_128, spill
from .shared import HELPER, N_ACTIVE, SCRATCH, claim, end_of, first_of, local, row_count

BYTES_PER_BLOCK = panel_bytes(BLOCK, 1) * TOKENS
TILE_BYTES = 128 * TOKENS


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
def gemm(op, frame, worker, product, blocks_per_32, by_panels):
    """Split over row groups of 32; `by_panels` runs the unpacked group over the panels."""
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
            by_panels(op, frame, worker, group, product, ints, scales, minimums, tile)


@entry()
def gemm_zero_8(op, frame, worker):
    gemm(op, frame, worker, product_zero_8, 1, group_by_panels)


@entry()
def gemm_zero_128(op, frame, worker):
    gemm(op, frame, worker, product_zero_128, 1, group_by_panels)


@entry()
def gemm_minimum(op, frame, worker):
    gemm(op, frame, worker, product_minimum, 1, group_by_panels)


@entry()
def gemm_zero_32_by_16(op, frame, worker):
    gemm(op, frame, worker, product_zero_32_by_16, 2, group_by_panels)
