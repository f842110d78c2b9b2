"""Row decoders of the lattice formats: a code selects 8 (or 4) levels from a grid, with signs or a shift.

Eight codes are one 64-bit word: a grid row is a word of levels + 128, signs are a mask of 0x00 and 0xFF bytes, and
-level + 128 = (level + 128 ^ 0xFF) + 1 in every byte without a carry, because no level of a signed grid is 0.
"""

import numpy as np

from ...compiler.entry import device, entry
from ...formats import iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs
from ...formats.grids import even_signs
from ...simd.memory import load_f16, load_u8, load_u16, load_u32, load_u64, store_i64
from ...simd.unpack import half_of_bits, make_fields, nibbles_once, nibbles_twice
from .row_parts import ROW, clear_minimums, store_odd_scales

EIGHTH, QUARTER = np.float32(1 / 8), np.float32(1 / 4)
ONES = 0x0101010101010101
triples_once = make_fields([3 * i for i in range(16)], 3)
triples_twice = make_fields([3 * (i // 2) for i in range(16)], 3)


def as_words(grid):
    """Grid rows of 8 or 4 levels as int64 words of levels + 128."""
    rows = np.zeros((len(grid), 8), np.uint8)
    rows[:, : grid.shape[1]] = grid.astype(np.int16) + 128
    return rows.view("<i8")[:, 0].astype(np.int64)


def as_masks(signs):
    """Sign bytes as int64 words of 0x00 and 0xFF bytes, bit 0 first."""
    negative = np.unpackbits(signs[:, None], axis=1, bitorder="little")
    return (negative * np.uint8(255)).view("<i8")[:, 0].astype(np.int64)


SIGNS = as_masks(np.arange(256, dtype=np.uint8))
EVEN_SIGNS = as_masks(even_signs(np.arange(128, dtype=np.uint8)))
GRID_IQ1 = as_words(iq1_s.grid())
GRID_IQ2_XXS, GRID_IQ2_XS, GRID_IQ2_S = as_words(iq2_xxs.grid()), as_words(iq2_xs.grid()), as_words(iq2_s.grid())
GRID_IQ3_XXS, GRID_IQ3_S = as_words(iq3_xxs.grid()), as_words(iq3_s.grid())


@device
def store_signed(codes, levels, mask):
    """Eight codes: the levels, negated where the mask is set."""
    store_i64(codes, (levels ^ mask) + (mask & ONES))


@entry(ROW)
def row_iq2_xxs(source, n_columns, codes, scales, minimums):
    """F16 scale, then 8 runs of four grid rows (a byte each) and a word of 4 x 7 signs and a 4-bit scale."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        steps = 0
        for run in range(8):
            rows, word = load_u32(source + 2 + 8 * run), load_u32(source + 6 + 8 * run)
            steps |= word >> 28 << 4 * run
            for vector in range(4):
                levels = GRID_IQ2_XXS[rows >> 8 * vector & 255]
                store_signed(codes + 32 * run + 8 * vector, levels, EVEN_SIGNS[word >> 7 * vector & 127])
        store_odd_scales(scales, load_f16(source) * EIGHTH, nibbles_twice(steps))
        source, codes, scales = source + 66, codes + 256, scales + 64


@entry(ROW)
def row_iq2_xs(source, n_columns, codes, scales, minimums):
    """F16 scale, 32 x 16 bits (9 of grid row, 7 signs), 16 nibbles of scales."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        for vector in range(32):
            word = load_u16(source + 2 + 2 * vector)
            store_signed(codes + 8 * vector, GRID_IQ2_XS[word & 511], EVEN_SIGNS[word >> 9])
        store_odd_scales(scales, load_f16(source) * EIGHTH, nibbles_once(load_u64(source + 66)))
        source, codes, scales = source + 74, codes + 256, scales + 64


@entry(ROW)
def row_iq2_s(source, n_columns, codes, scales, minimums):
    """F16 scale, 32 bytes of grid rows, 32 of signs, 8 of upper bit pairs of the grid rows, 16 nibbles of scales."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        upper = load_u64(source + 66)
        for vector in range(32):
            grid_row = load_u8(source + 2 + vector) | (upper >> 2 * vector & 3) << 8
            store_signed(codes + 8 * vector, GRID_IQ2_S[grid_row], SIGNS[load_u8(source + 34 + vector)])
        store_odd_scales(scales, load_f16(source) * EIGHTH, nibbles_once(load_u64(source + 74)))
        source, codes, scales = source + 82, codes + 256, scales + 64


@entry(ROW)
def row_iq3_xxs(source, n_columns, codes, scales, minimums):
    """F16 scale, 64 bytes of grid rows of 4, then a word per 32 columns of 4 x 7 signs and a 4-bit scale."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        steps = 0
        for run in range(8):
            word = load_u32(source + 66 + 4 * run)
            steps |= word >> 28 << 4 * run
            for vector in range(4):
                pair = load_u16(source + 2 + 8 * run + 2 * vector)
                levels = GRID_IQ3_XXS[pair & 255] | GRID_IQ3_XXS[pair >> 8] << 32
                store_signed(codes + 32 * run + 8 * vector, levels, EVEN_SIGNS[word >> 7 * vector & 127])
        store_odd_scales(scales, load_f16(source) * QUARTER, nibbles_twice(steps))
        source, codes, scales = source + 98, codes + 256, scales + 64


@entry(ROW)
def row_iq3_s(source, n_columns, codes, scales, minimums):
    """F16 scale, 64 bytes of grid rows of 4, 64 ninth bits of them, 32 bytes of signs, 8 nibbles of scales."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        ninth = load_u64(source + 66)
        for vector in range(32):
            pair, bits = load_u16(source + 2 + 2 * vector), ninth >> 2 * vector
            low = GRID_IQ3_S[pair & 255 | (bits & 1) << 8]
            high = GRID_IQ3_S[pair >> 8 | (bits >> 1 & 1) << 8]
            store_signed(codes + 8 * vector, low | high << 32, SIGNS[load_u8(source + 74 + vector)])
        store_odd_scales(scales, load_f16(source), nibbles_twice(load_u32(source + 106)))
        source, codes, scales = source + 110, codes + 256, scales + 64


@entry(ROW)
def row_iq1_s(source, n_columns, codes, scales, minimums):
    """F16 scale, 32 bytes of grid rows, then 16 bits per 32 columns: 4 x 3 upper bits, scale, sign of shift."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        steps = 0
        for run in range(8):
            rows, word = load_u32(source + 2 + 4 * run), load_u16(source + 34 + 2 * run)
            steps |= (word >> 12 & 7) << 3 * run
            shift = ONES if word < 0x8000 else -ONES
            for vector in range(4):
                grid_row = rows >> 8 * vector & 255 | (word >> 3 * vector & 7) << 8
                store_i64(codes + 32 * run + 8 * vector, GRID_IQ1[grid_row] + shift)
        store_odd_scales(scales, load_f16(source) * EIGHTH, triples_twice(steps))
        source, codes, scales = source + 50, codes + 256, scales + 64


@entry(ROW)
def row_iq1_m(source, n_columns, codes, scales, minimums):
    """32 bytes of grid rows, 32 nibbles (3 upper bits, sign of shift), 4 x 16 bits (4 x 3 of scale, 4 of the F16)."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        for vector in range(32):
            nibble = load_u8(source + 32 + (vector >> 1)) >> 4 * (vector & 1)
            grid_row = load_u8(source + vector) | (nibble & 7) << 8
            store_i64(codes + 8 * vector, GRID_IQ1[grid_row] + (ONES if nibble & 8 == 0 else -ONES))
        steps, scale = 0, 0
        for part in range(4):
            word = load_u16(source + 48 + 2 * part)
            steps |= (word & 0xFFF) << 12 * part
            scale |= word >> 12 << 4 * part
        store_odd_scales(scales, half_of_bits(scale) * EIGHTH, triples_once(steps))
        source, codes, scales = source + 56, codes + 256, scales + 64
