"""Ops on whole rows of floats: gathering rows, learned positions, the RoPE table."""

import math

from numba import float32

from ...compiler.entry import entry
from ...frame import frame_field
from ...ops import ADD_POSITIONS, GATHER, ROPE_TABLE
from ...simd.memory import load_f32, load_f64, load_first, load_i32, load_i64, store_f32, store_first
from .shared import N_ACTIVE, claim, end_of, first_of, row_count

GATHER_X, GATHER_OUT, GATHER_WIDTH = GATHER.offsets()
PLACED_X, PLACES, PLACED_WIDTH = ADD_POSITIONS.offsets()
TABLE, FREQUENCIES, N_PAIRS, N_SECOND, MAGNITUDE = ROPE_TABLE.offsets()
POSITIONS, LOGIT_ROWS = frame_field("positions"), frame_field("logit_rows")
SECOND_POSITIONS = frame_field("second_positions")


@entry()
def gather(op, frame, worker):
    x, out, width = load_i64(op + GATHER_X), load_i64(op + GATHER_OUT), load_i64(op + GATHER_WIDTH)
    rows = load_i64(frame + LOGIT_ROWS)
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for i in range(first_of(span), end_of(span)):
            source, target = x + 4 * width * load_i32(rows + 4 * i), out + 4 * width * i
            for j in range(0, width, 16):
                store_first(target + 4 * j, load_first(source + 4 * j, width - j), width - j)


@entry()
def add_positions(op, frame, worker):
    x, table, width = load_i64(op + PLACED_X), load_i64(op + PLACES), load_i64(op + PLACED_WIDTH)
    positions = load_i64(frame + POSITIONS)
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for row in range(first_of(span), end_of(span)):
            source, target = table + 4 * width * load_i32(positions + 4 * row), x + 4 * width * row
            for i in range(0, width, 16):
                count = width - i
                moved = load_first(target + 4 * i, count) + load_first(source + 4 * i, count)
                store_first(target + 4 * i, moved, count)


@entry()
def rope_table(op, frame, worker):
    """Angles in float64: at position 131,071 a float32 product would be off by 0.004 radians."""
    table, frequencies, n_pairs = load_i64(op + TABLE), load_i64(op + FREQUENCIES), load_i64(op + N_PAIRS)
    magnitude, positions = load_f32(op + MAGNITUDE), load_i64(frame + POSITIONS)
    n_first, seconds = n_pairs - load_i64(op + N_SECOND), load_i64(frame + SECOND_POSITIONS)
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for row in range(first_of(span), end_of(span)):
            first, second = load_i32(positions + 4 * row), load_i32(seconds + 4 * row)
            cosines = table + 8 * row * n_pairs
            for i in range(n_pairs):
                angle = (first if i < n_first else second) * load_f64(frequencies + 8 * i)
                store_f32(cosines + 4 * i, float32(math.cos(angle)) * magnitude)
                store_f32(cosines + 4 * (n_pairs + i), float32(math.sin(angle)) * magnitude)
