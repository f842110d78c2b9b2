"""Nearest rows of a grid for 16 short vectors at once, and the scales of a super-block of them.

The I-quants code 8 (or 4) values by one row of a grid of levels. For a scale s the squared error of a row g is, but for
a constant, sum of s g (s g w - 2 w x): a sum over its elements. So the errors of all first halves and of all second
halves are tabulated, and the error of a row is one addition. Every row is tried: the result is the nearest there is.

Lane r of a vector belongs to short vector r of a set. A super-block is two sets of vectors of 8 or four of 4:

    scratch + VALUES    vector (set, i): value i of each short vector
            + WEIGHTS   vector (set, i): its weight
            + TABLES    errors of levels, pairs and halves, for the set at hand
            + FIELDS    per set: SCALE, INDEX (of the grid row), OFFSET (added to every level), STEP
"""

from numba import float32

from edgellama.compiler.entry import device
from edgellama.simd.arithmetic import (
    absolute,
    fma,
    max_lanes,
    splat_float,
    splat_int,
    sum_lanes,
    zero_float,
    zero_int,
)
from edgellama.simd.memory import load_f32, load_i32, load_ints, load_vector, store_f32, store_ints, store_vector

from ..scratch import SCRATCH_BYTES
from .lanes import LANES, VECTOR_BYTES, first_lane, int_where_less, larger, rounded_to_half, smaller, where_less
from .parts import INFINITE, clamp, group_largest, group_sum, inverse_or_zero, nearest_in

BLOCK = 256
VALUES = 0
WEIGHTS = VALUES + 4 * BLOCK
TABLES = WEIGHTS + 4 * BLOCK
LEVELS_TABLE, PAIRS_TABLE = TABLES, TABLES + 32 * VECTOR_BYTES
LOW_TABLE = PAIRS_TABLE + 36 * VECTOR_BYTES
HIGH_TABLE = LOW_TABLE + 81 * VECTOR_BYTES
SUMS = HIGH_TABLE + 81 * VECTOR_BYTES
FIELDS = SUMS + 2 * VECTOR_BYTES
SCALE, INDEX, OFFSET, STEP = FIELDS, FIELDS + 256, FIELDS + 512, FIELDS + 768  # 4 sets each
SIGNS = FIELDS + 1024
assert SIGNS + 64 <= SCRATCH_BYTES

N_TRIALS, FIRST_TRIAL, TRIAL_STEP = 6, float32(0.6), float32(0.15)  # the last level, relative to the peak


@device
def join_tables(first, n_first, second, n_second, target):
    """Sums of all pairs; the index of the first table runs fastest."""
    for j in range(n_second):
        b = load_vector(second + VECTOR_BYTES * j)
        for i in range(n_first):
            store_vector(target + VECTOR_BYTES * (j * n_first + i), load_vector(first + VECTOR_BYTES * i) + b)


@device
def fill_tables(scratch, place, scale, levels, offset, length):
    """Errors of the halves of all rows, to LOW_TABLE and HIGH_TABLE."""
    n_levels, minus_two = len(levels), splat_float(float32(-2.0))
    for i in range(length):
        at = scratch + place + VECTOR_BYTES * i
        x, w = load_vector(at + VALUES), load_vector(at + WEIGHTS)
        linear = minus_two * w * x
        for k in range(n_levels):
            value = scale * splat_float(levels[k] + offset)
            error = value * fma(value, w, linear)
            store_vector(scratch + LEVELS_TABLE + VECTOR_BYTES * (i * n_levels + k), error)
    tables, n_bytes = scratch + LEVELS_TABLE, VECTOR_BYTES * n_levels
    if length == 4:
        join_tables(tables, n_levels, tables + n_bytes, n_levels, scratch + LOW_TABLE)
        join_tables(tables + 2 * n_bytes, n_levels, tables + 3 * n_bytes, n_levels, scratch + HIGH_TABLE)
        return
    n_pairs = n_levels * n_levels
    for pair in range(4):
        first = tables + 2 * pair * n_bytes
        target = scratch + PAIRS_TABLE + VECTOR_BYTES * n_pairs * pair
        join_tables(first, n_levels, first + n_bytes, n_levels, target)
    pairs, n_bytes = scratch + PAIRS_TABLE, VECTOR_BYTES * n_pairs
    join_tables(pairs, n_pairs, pairs + n_bytes, n_pairs, scratch + LOW_TABLE)
    join_tables(pairs + 2 * n_bytes, n_pairs, pairs + 3 * n_bytes, n_pairs, scratch + HIGH_TABLE)


@device
def nearest_rows(scratch, place, scale, grid, offset):
    """(error, index) of the nearest grid row of each short vector at this scale; errors lack a constant."""
    lows, highs, levels, rows = grid
    fill_tables(scratch, place, scale, levels, offset, rows.shape[1])
    best, index = splat_float(INFINITE), zero_int()
    for row in range(len(lows)):
        error = load_vector(scratch + LOW_TABLE + lows[row]) + load_vector(scratch + HIGH_TABLE + highs[row])
        index = int_where_less(error, best, splat_int(row), index)
        best = smaller(error, best)
    return best, index


@device
def nearest_signed(scratch, place, scale, grid, n_shift):
    """(error, index, offset) for grids of magnitudes, whose levels have no offset."""
    error, index = nearest_rows(scratch, place, scale, grid, float32(0.0))
    return error, index, zero_float()


@device
def nearest_shifted(scratch, place, scale, grid, n_shift):
    """The same for grids whose levels may all be shifted by 1 or -1, alike in each group of n_shift short vectors."""
    one = splat_float(float32(1.0))
    up_error, up_index = nearest_rows(scratch, place, scale, grid, float32(1.0))
    down_error, down_index = nearest_rows(scratch, place, scale, grid, float32(-1.0))
    of_up, of_down = group_sum(up_error, n_shift), group_sum(down_error, n_shift)
    error = where_less(of_down, of_up, down_error, up_error)
    index = int_where_less(of_down, of_up, down_index, up_index)
    return error, index, where_less(of_down, of_up, zero_float() - one, one)


@device
def row_sums(scratch, place, index, offset, rows):
    """Sums of w x g and w g^2 over each short vector, g being the chosen row's levels with their offset."""
    store_ints(scratch + SUMS, index)
    store_vector(scratch + SUMS + VECTOR_BYTES, offset)
    for lane in range(LANES):
        row, shift = load_i32(scratch + SUMS + 4 * lane), load_f32(scratch + SUMS + VECTOR_BYTES + 4 * lane)
        xg_sum, gg_sum = float32(0.0), float32(0.0)
        for i in range(rows.shape[1]):
            at = scratch + place + VECTOR_BYTES * i + 4 * lane
            level = rows[row, i] + shift
            weighted = load_f32(at + WEIGHTS) * level
            xg_sum += weighted * load_f32(at + VALUES)
            gg_sum += weighted * level
        store_f32(scratch + SUMS + 4 * lane, xg_sum)
        store_f32(scratch + SUMS + VECTOR_BYTES + 4 * lane, gg_sum)
    return load_vector(scratch + SUMS), load_vector(scratch + SUMS + VECTOR_BYTES)


@device
def keep_better(scratch, place, scale, grid, nearest, n_group, n_shift, best):
    """The better of `best` = (scale, error) and the scale that fits the rows nearest at `scale` best."""
    _, index, offset = nearest(scratch, place, scale, grid, n_shift)
    xg_sum, gg_sum = row_sums(scratch, place, index, offset, grid[3])
    xg_sum, gg_sum = group_sum(xg_sum, n_group), group_sum(gg_sum, n_group)
    fitted = larger(xg_sum * inverse_or_zero(gg_sum), zero_float())
    error = zero_float() - fitted * xg_sum
    return where_less(error, best[1], fitted, best[0]), smaller(error, best[1])


@device
def fit_set(scratch, place, grid, nearest, n_group, n_shift):
    """The scale of each group of short vectors: its peak is tried at several places around the last level."""
    levels, length = grid[2], grid[3].shape[1]
    peak = zero_float()
    for at in range(scratch + place, scratch + place + VECTOR_BYTES * length, VECTOR_BYTES):
        peak = larger(absolute(load_vector(at + VALUES)), peak)
    per_level = group_largest(peak, n_group) / splat_float(levels[len(levels) - 1])
    best = (zero_float(), zero_float())  # a scale of 0 gains nothing
    for trial in range(N_TRIALS):
        scale = per_level * splat_float(FIRST_TRIAL + TRIAL_STEP * float32(trial))
        best = keep_better(scratch, place, scale, grid, nearest, n_group, n_shift, best)
    return best[0]


@device
def search_steps(scratch, set_bytes, number, unit, grid, nearest, n_group, n_shift, last_step):
    """Choose the best step at most one away, and the rows at that scale: fields STEP, INDEX and OFFSET of a set."""
    field, place = scratch + VECTOR_BYTES * number, set_bytes * number
    centre, one = load_vector(field + STEP), splat_float(float32(1.0))
    best_error, best_step = splat_float(INFINITE), centre
    for distance in range(-1, 2):
        step = clamp(centre + splat_float(float32(distance)), zero_float(), splat_float(float32(last_step)))
        scale = splat_float(unit) * (step + step + one)
        error, index, offset = nearest(scratch, place, scale, grid, n_shift)
        error = group_sum(error, n_group)
        if distance == -1:
            store_ints(field + INDEX, index)
            store_vector(field + OFFSET, offset)
        else:
            store_ints(field + INDEX, int_where_less(error, best_error, index, load_ints(field + INDEX)))
            store_vector(field + OFFSET, where_less(error, best_error, offset, load_vector(field + OFFSET)))
        best_step = where_less(error, best_error, step, best_step)
        best_error = smaller(error, best_error)
    store_vector(field + STEP, best_step)


@device
def solve_unit(scratch, set_bytes, n_sets, unit, rows):
    """The best unit for the steps and rows that are chosen: scales are unit * (2 * step + 1)."""
    one, numerator, denominator = splat_float(float32(1.0)), zero_float(), zero_float()
    for number in range(n_sets):
        field = scratch + VECTOR_BYTES * number
        index, offset = load_ints(field + INDEX), load_vector(field + OFFSET)
        xg_sum, gg_sum = row_sums(scratch, set_bytes * number, index, offset, rows)
        odd = load_vector(field + STEP) + load_vector(field + STEP) + one
        numerator, denominator = fma(odd, xg_sum, numerator), fma(odd * odd, gg_sum, denominator)
    total = sum_lanes(denominator)
    return sum_lanes(numerator) / total if total > float32(0.0) else unit


@device
def encode_block(scratch, n_sets, grid, nearest, n_group, n_shift, last_step, share):
    """Steps, rows and offsets of a super-block to the fields; the float16 scale d.

    The scale of a group is d * share * (2 * step + 1), steps being 0..last_step.
    """
    set_bytes = VECTOR_BYTES * grid[3].shape[1]
    largest = zero_float()
    for number in range(n_sets):
        scale = fit_set(scratch, set_bytes * number, grid, nearest, n_group, n_shift)
        store_vector(scratch + SCALE + VECTOR_BYTES * number, scale)
        largest = larger(scale, largest)
    unit = half_unit(max_lanes(largest) / float32(2 * last_step + 1), share)
    inverse, half = inverse_or_zero(splat_float(unit)), splat_float(float32(0.5))
    for number in range(n_sets):
        field = scratch + VECTOR_BYTES * number
        exact = (load_vector(field + SCALE) * inverse - splat_float(float32(1.0))) * half
        store_vector(field + STEP, nearest_in(exact, zero_float(), splat_float(float32(last_step))))
    for number in range(n_sets):
        search_steps(scratch, set_bytes, number, unit, grid, nearest, n_group, n_shift, last_step)
    unit = half_unit(solve_unit(scratch, set_bytes, n_sets, unit, grid[3]), share)
    for number in range(n_sets):
        search_steps(scratch, set_bytes, number, unit, grid, nearest, n_group, n_shift, last_step)
    return unit / share


@device
def half_unit(unit, share):
    """The multiple of `share` nearest to unit whose factor is a float16; never negative."""
    return first_lane(rounded_to_half(splat_float(max(unit, float32(0.0)) / share))) * share
