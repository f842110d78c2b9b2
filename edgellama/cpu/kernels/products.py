"""Sums of an unpacked row group by a panel, one function for each way that formats scale their blocks.

Arguments: `ints` uint8 [n_columns/4][2][16 rows][4], `scales` and `minimums` float32 [blocks][2][16] (a block is 32
columns, or 16), all at the half in hand; `x` and `fields` of a quantized panel (cpu/layout.py). Result: a tile.
Blocks are added in order, total = fma(float(dot) * scale, token scale, total), as the kernels for one row do it.
"""

from ...compiler.entry import device
from ...simd.tile import TOKENS, load_halves_f32, make_tile
from ..layout import N_FIELDS, NEGATIVE_SUM, NEGATIVE_SUM_16, SCALE, SCALED_SUM, SCALED_SUM_16

QUAD = 4 * TOKENS  # bytes from one quad of columns to the next in a panel, and from one field to the next
TILE = make_tile(TOKENS)
zero_ints, zero_floats, start_ints, start_bytes = TILE.zero_ints, TILE.zero_floats, TILE.start_ints, TILE.start_bytes
dot_bytes, dot_small, add_scaled, add_outer = TILE.dot_bytes, TILE.dot_small, TILE.add_scaled, TILE.add_outer
spill, add_runs = TILE.spill, TILE.add_runs


@device
def product_zero_8(ints, scales, minimums, x, fields, n_blocks):
    """Codes 0..15 around 8, one scale per 32 (Q4_0)."""
    total = zero_floats()
    for _ in range(n_blocks):
        acc = start_ints(fields + NEGATIVE_SUM * QUAD, 3)
        for _ in range(8):
            acc = dot_small(acc, ints, x)
            ints, x = ints + 128, x + QUAD
        total = add_scaled(total, acc, load_halves_f32(scales), fields + SCALE * QUAD)
        scales, fields = scales + 128, fields + N_FIELDS * QUAD
    return total


@device
def product_zero_128(ints, scales, minimums, x, fields, n_blocks):
    """Codes 0..255 around 128, one scale per 32 (Q8_0)."""
    total = zero_floats()
    for _ in range(n_blocks):
        acc = start_bytes(fields + NEGATIVE_SUM * QUAD)
        for _ in range(8):
            acc = dot_bytes(acc, ints, x)
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
            acc = dot_small(acc, ints, x)
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
                acc = dot_small(acc, ints, x)
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
            acc = start_bytes(fields + (NEGATIVE_SUM_16 + half) * QUAD)
            for _ in range(4):
                acc = dot_bytes(acc, ints, x)
                ints, x = ints + 128, x + QUAD
            total = add_scaled(total, acc, load_halves_f32(scales), fields + SCALE * QUAD)
            total = add_outer(total, load_halves_f32(minimums), fields + (SCALED_SUM_16 + half) * QUAD)
            scales, minimums = scales + 128, minimums + 128
        fields += N_FIELDS * QUAD
    return total


@device
def product_float(values, x, n_columns):
    """float32 [n_columns][2][16] by a float panel [n_columns][TOKENS], column by column."""
    total = zero_floats()
    for _ in range(n_columns):
        total = add_outer(total, load_halves_f32(values), x)
        values, x = values + 128, x + QUAD
    return total
