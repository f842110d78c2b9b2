"""gemm for a few rows of activations (a step of several sequences): one panel, and a tile no wider than it needs."""

from ...compiler.entry import device, entry
from ...simd.memory import load_i64
from ...simd.tile import FEW_TOKENS, HALVES, TOKENS
from ..layout import BLOCK
from .gemm import BYTES_PER_BLOCK, gemm
from .output import N_COLUMNS, X, finish_tile
from .products import make_products
from .shared import local, row_count

PRODUCTS = make_products(FEW_TOKENS)
product_zero_8, product_zero_128, spill = PRODUCTS.zero_8, PRODUCTS.zero_128, PRODUCTS.spill
product_minimum, product_zero_32_by_16 = PRODUCTS.minimum, PRODUCTS.zero_32_by_16


@device
def group_by_few(op, frame, worker, group, product, ints, scales, minimums, tile):
    """One unpacked row group by at most FEW_ROWS tokens: FEW_TOKENS of them, or a whole panel, fill a tile."""
    n_columns, n_tokens = load_i64(op + N_COLUMNS), row_count(op, frame)
    n_blocks = n_columns // BLOCK
    panel = local(op, frame, worker, load_i64(op + X))
    for first in range(0, n_tokens, FEW_TOKENS):
        at_panel = panel + first // TOKENS * n_blocks * BYTES_PER_BLOCK
        x, fields = at_panel, at_panel + n_columns * TOKENS
        for half in range(0, 2, HALVES):
            at = 64 * half
            spill(product(ints + at, scales + at, minimums + at, x, fields, n_blocks), tile + at)
        finish_tile(op, tile, group, first, min(FEW_TOKENS, n_tokens - first))


@entry()
def gemm_few_zero_8(op, frame, worker):
    gemm(op, frame, worker, product_zero_8, 1, group_by_few)


@entry()
def gemm_few_zero_128(op, frame, worker):
    gemm(op, frame, worker, product_zero_128, 1, group_by_few)


@entry()
def gemm_few_minimum(op, frame, worker):
    gemm(op, frame, worker, product_minimum, 1, group_by_few)


@entry()
def gemm_few_zero_32_by_16(op, frame, worker):
    gemm(op, frame, worker, product_zero_32_by_16, 2, group_by_few)
