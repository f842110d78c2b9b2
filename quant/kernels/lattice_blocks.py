"""Encoders of the I-quants with grids: IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S and IQ1_M."""

import numpy as np
from numba import float32

from edgellama.compiler.entry import device, entry
from edgellama.formats import iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs
from edgellama.formats.grids import LEVELS_IQ1, LEVELS_IQ2
from edgellama.simd.memory import load_f32, load_i32, load_u8, store_f16, store_f32, store_u8, store_u16, store_u32

from .lanes import VECTOR_BYTES, bits_of_half
from .lattice import BLOCK, INDEX, OFFSET, SIGNS, STEP, VALUES, WEIGHTS, encode_block, nearest_shifted, nearest_signed
from .parts import ENCODER

ONE, EIGHTH, QUARTER = float32(1.0), float32(1 / 8), float32(1 / 4)


def as_tables(grid: np.ndarray, levels: tuple[int, ...]):
    """(where the first half of each row is in a table of halves, where the second, levels, rows)."""
    digits = np.searchsorted(np.array(levels), grid)
    half = grid.shape[1] // 2
    powers = len(levels) ** np.arange(half)
    lows, highs = digits[:, :half] @ powers, digits[:, half:] @ powers
    offsets = (np.int64(VECTOR_BYTES) * part.astype(np.int64) for part in (lows, highs))
    return (*offsets, np.array(levels, np.float32), np.ascontiguousarray(grid, np.float32))


GRID_IQ2_XXS = as_tables(iq2_xxs.grid(), LEVELS_IQ2)
GRID_IQ2_XS = as_tables(iq2_xs.grid(), LEVELS_IQ2)
GRID_IQ2_S = as_tables(iq2_s.grid(), LEVELS_IQ2)
GRID_IQ3_XXS = as_tables(iq3_xxs.grid(), iq3_xxs.LEVELS)
GRID_IQ3_S = as_tables(iq3_s.grid(), iq3_s.LEVELS)
GRID_IQ1 = as_tables(iq1_s.grid(), LEVELS_IQ1)


@device
def weight_of(importance, column, i):
    return load_f32(importance + 4 * (column + i)) if importance != 0 else ONE


@device
def place_of(i, length):
    """Where value i of a super-block lies among the vectors of its sets."""
    short, element = i // length, i % length
    number, lane = short // 16, short % 16
    return VECTOR_BYTES * (number * length + element) + 4 * lane


@device
def load_block(x, importance, column, length, scratch):
    """The values as they are, with their weights."""
    for i in range(BLOCK):
        at = scratch + place_of(i, length)
        store_f32(at + VALUES, load_f32(x + 4 * i))
        store_f32(at + WEIGHTS, weight_of(importance, column, i))


@device
def load_magnitudes(x, importance, column, length, even, scratch):
    """Magnitudes and their weights; sign bits of each 8 values, made even in number by one that costs least."""
    load_block(x, importance, column, length, scratch)
    for group in range(0, BLOCK, 8):
        signs, count, cheapest, least = 0, 0, group, float32(3e38)
        for i in range(group, group + 8):
            value = load_f32(x + 4 * i)
            cost = weight_of(importance, column, i) * value * value
            if value < float32(0.0):
                signs, count = signs | 1 << (i - group), count + 1
            if cost < least:
                cheapest, least = i, cost
            store_f32(scratch + VALUES + place_of(i, length), abs(value))
        if even and count & 1:
            signs ^= 1 << (cheapest - group)
            store_f32(scratch + VALUES + place_of(cheapest, length), -abs(load_f32(x + 4 * cheapest)))
        store_u8(scratch + SIGNS + group // 8, signs)


@device
def index_of(scratch, short):
    """The grid row of a short vector."""
    return load_i32(scratch + INDEX + VECTOR_BYTES * (short // 16) + 4 * (short % 16))


@device
def step_of(scratch, short):
    return int(load_f32(scratch + STEP + VECTOR_BYTES * (short // 16) + 4 * (short % 16)))


@device
def is_shifted_down(scratch, short):
    return load_f32(scratch + OFFSET + VECTOR_BYTES * (short // 16) + 4 * (short % 16)) < float32(0.0)


@device
def seven_signs(scratch, group):
    """Four times the first seven signs of 8 values, 7 bits each."""
    word = 0
    for i in range(4):
        word |= (load_u8(scratch + SIGNS + group + i) & 127) << 7 * i
    return word


@device
def store_nibble_steps(scratch, n_runs, n_short, target):
    """4-bit steps of runs of n_short short vectors, the first in the low nibble."""
    for run in range(0, n_runs, 2):
        low, high = step_of(scratch, run * n_short), step_of(scratch, (run + 1) * n_short)
        store_u8(target + run // 2, low | high << 4)


@entry(ENCODER)
def encode_iq2_xxs(source, importance, n_rows, n_columns, target, scratch):
    for first in range(0, n_rows * n_columns, BLOCK):
        load_magnitudes(source + 4 * first, importance, first % n_columns, 8, True, scratch)
        scale = encode_block(scratch, 2, GRID_IQ2_XXS, nearest_signed, 4, 1, 15, EIGHTH)
        store_f16(target, scale)
        for run in range(8):
            for vector in range(4):
                store_u8(target + 2 + 8 * run + vector, index_of(scratch, 4 * run + vector))
            store_u32(target + 6 + 8 * run, seven_signs(scratch, 4 * run) | step_of(scratch, 4 * run) << 28)
        target += 66


@entry(ENCODER)
def encode_iq2_xs(source, importance, n_rows, n_columns, target, scratch):
    for first in range(0, n_rows * n_columns, BLOCK):
        load_magnitudes(source + 4 * first, importance, first % n_columns, 8, True, scratch)
        scale = encode_block(scratch, 2, GRID_IQ2_XS, nearest_signed, 2, 1, 15, EIGHTH)
        store_f16(target, scale)
        for vector in range(32):
            signs = load_u8(scratch + SIGNS + vector) & 127
            store_u16(target + 2 + 2 * vector, index_of(scratch, vector) | signs << 9)
        store_nibble_steps(scratch, 16, 2, target + 66)
        target += 74


@entry(ENCODER)
def encode_iq2_s(source, importance, n_rows, n_columns, target, scratch):
    for first in range(0, n_rows * n_columns, BLOCK):
        load_magnitudes(source + 4 * first, importance, first % n_columns, 8, False, scratch)
        scale = encode_block(scratch, 2, GRID_IQ2_S, nearest_signed, 2, 1, 15, EIGHTH)
        store_f16(target, scale)
        for four in range(8):
            upper = 0
            for i in range(4):
                vector = 4 * four + i
                index = index_of(scratch, vector)
                store_u8(target + 2 + vector, index)
                store_u8(target + 34 + vector, load_u8(scratch + SIGNS + vector))
                upper |= (index >> 8) << 2 * i
            store_u8(target + 66 + four, upper)
        store_nibble_steps(scratch, 16, 2, target + 74)
        target += 82


@entry(ENCODER)
def encode_iq3_xxs(source, importance, n_rows, n_columns, target, scratch):
    for first in range(0, n_rows * n_columns, BLOCK):
        load_magnitudes(source + 4 * first, importance, first % n_columns, 4, True, scratch)
        scale = encode_block(scratch, 4, GRID_IQ3_XXS, nearest_signed, 8, 1, 15, QUARTER)
        store_f16(target, scale)
        for vector in range(64):
            store_u8(target + 2 + vector, index_of(scratch, vector))
        for run in range(8):
            store_u32(target + 66 + 4 * run, seven_signs(scratch, 4 * run) | step_of(scratch, 8 * run) << 28)
        target += 98


@entry(ENCODER)
def encode_iq3_s(source, importance, n_rows, n_columns, target, scratch):
    for first in range(0, n_rows * n_columns, BLOCK):
        load_magnitudes(source + 4 * first, importance, first % n_columns, 4, False, scratch)
        scale = encode_block(scratch, 4, GRID_IQ3_S, nearest_signed, 8, 1, 15, ONE)
        store_f16(target, scale)
        for eight in range(8):
            upper = 0
            for i in range(8):
                index = index_of(scratch, 8 * eight + i)
                store_u8(target + 2 + 8 * eight + i, index)
                upper |= (index >> 8) << i
            store_u8(target + 66 + eight, upper)
        for group in range(32):
            store_u8(target + 74 + group, load_u8(scratch + SIGNS + group))
        store_nibble_steps(scratch, 8, 8, target + 106)
        target += 110


@entry(ENCODER)
def encode_iq1_s(source, importance, n_rows, n_columns, target, scratch):
    for first in range(0, n_rows * n_columns, BLOCK):
        load_block(source + 4 * first, importance, first % n_columns, 8, scratch)
        scale = encode_block(scratch, 2, GRID_IQ1, nearest_shifted, 4, 4, 7, EIGHTH)
        store_f16(target, scale)
        for run in range(8):
            word = step_of(scratch, 4 * run) << 12
            if is_shifted_down(scratch, 4 * run):
                word |= 0x8000
            for i in range(4):
                index = index_of(scratch, 4 * run + i)
                store_u8(target + 2 + 4 * run + i, index)
                word |= (index >> 8) << 3 * i
            store_u16(target + 34 + 2 * run, word)
        target += 50


@entry(ENCODER)
def encode_iq1_m(source, importance, n_rows, n_columns, target, scratch):
    for first in range(0, n_rows * n_columns, BLOCK):
        load_block(source + 4 * first, importance, first % n_columns, 8, scratch)
        scale = encode_block(scratch, 2, GRID_IQ1, nearest_shifted, 2, 1, 7, EIGHTH)
        for pair in range(16):
            nibbles = 0
            for i in range(2):
                index = index_of(scratch, 2 * pair + i)
                store_u8(target + 2 * pair + i, index)
                shifted = 8 if is_shifted_down(scratch, 2 * pair + i) else 0
                nibbles |= (index >> 8 | shifted) << 4 * i
            store_u8(target + 32 + pair, nibbles)
        bits = bits_of_half(scale)
        for part in range(4):
            word = (bits >> 4 * part & 15) << 12
            for i in range(4):
                word |= step_of(scratch, 2 * (4 * part + i)) << 3 * i
            store_u16(target + 48 + 2 * part, word)
        target += 56
