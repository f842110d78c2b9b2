"""Scales by weighted least squares: value = scale * level, for 16 runs at once.

For fixed levels the best scale of a run is (sum of w x q) / (sum of w q^2), which lowers the squared error by
(sum of w x q)^2 / (sum of w q^2); for a fixed scale the best level is the nearest one. `nearest_level` is a device
function that finds it, so the search serves evenly spaced levels and tables.
"""

from numba import float32

from edgellama.compiler.entry import device
from edgellama.simd.arithmetic import absolute, fma, splat_float, zero_float
from edgellama.simd.memory import load_vector, splat_load, store_low_bytes

from .lanes import LANES, VECTOR_BYTES, larger, rounded_to_half, smaller, where_less
from .parts import INFINITE, clamp, group_largest, group_sum, inverse_or_zero, nearest_in
from .runs import PRODUCTS, WEIGHTS

N_TRIALS = 11
N_ALTERNATIONS = 2
N_ROUNDS = 2


@device
def level_sums(scratch, length, inverse, nearest_level):
    """Sums of w q^2 and w x q over each run, q being the level nearest to x * inverse."""
    qq_sum, xq_sum = zero_float(), zero_float()
    for at in range(scratch, scratch + VECTOR_BYTES * length, VECTOR_BYTES):
        q = nearest_level(load_vector(at) * inverse)
        qq_sum = fma(load_vector(at + WEIGHTS) * q, q, qq_sum)
        xq_sum = fma(load_vector(at + PRODUCTS), q, xq_sum)
    return qq_sum, xq_sum


@device
def signed_peak(scratch, length):
    """The value of largest magnitude of each run."""
    largest, peak = zero_float(), zero_float()
    for at in range(scratch, scratch + VECTOR_BYTES * length, VECTOR_BYTES):
        x = load_vector(at)
        peak = where_less(largest, absolute(x), x, peak)
        largest = larger(absolute(x), largest)
    return peak


@device
def keep_better(scratch, length, inverse, nearest_level, best):
    """The better of `best` = (scale, gain) and what the levels nearest to x * inverse lead to."""
    qq_sum, xq_sum = level_sums(scratch, length, inverse, nearest_level)
    scale = xq_sum * inverse_or_zero(qq_sum)
    gain = scale * xq_sum
    return where_less(best[1], gain, scale, best[0]), larger(gain, best[1])


@device
def fit_runs(scratch, length, nearest_level, ends, step):
    """The scale of each run, of either sign: its peak is tried at places `step` apart around both end levels."""
    low, high = ends
    per_level = inverse_or_zero(signed_peak(scratch, length))
    best = (zero_float(), zero_float())
    for trial in range(N_TRIALS):
        shift = step * (float32(trial) - float32(N_TRIALS // 2))
        best = keep_better(scratch, length, splat_float(low - shift) * per_level, nearest_level, best)
        best = keep_better(scratch, length, splat_float(high + shift) * per_level, nearest_level, best)
    for _ in range(N_ALTERNATIONS):
        best = keep_better(scratch, length, inverse_or_zero(best[0]), nearest_level, best)
    return best[0]


@device
def search_steps(scratch, length, unit, centre, nearest_level, low_step, high_step):
    """The best step at most one away."""
    step, error = centre, splat_float(INFINITE)
    two = splat_float(float32(2.0))
    for offset in range(-1, 2):
        new_step = clamp(centre + splat_float(float32(offset)), low_step, high_step)
        scale = unit * new_step
        qq_sum, xq_sum = level_sums(scratch, length, inverse_or_zero(scale), nearest_level)
        new_error = scale * (scale * qq_sum - two * xq_sum)
        step = where_less(new_error, error, new_step, step)
        error = smaller(new_error, error)
    return step


@device
def solve_unit(scratch, length, unit, step, nearest_level, n_group):
    """The best float16 unit of each group of runs for these steps and the levels that they give."""
    qq_sum, xq_sum = level_sums(scratch, length, inverse_or_zero(unit * step), nearest_level)
    numerator = group_sum(step * xq_sum, n_group)
    return rounded_to_half(numerator * inverse_or_zero(group_sum(step * step * qq_sum, n_group)))


@device
def group_peak(scale, n_group):
    """The scale of largest magnitude of each group; the positive one of two."""
    largest, smallest = group_largest(scale, n_group), group_largest(zero_float() - scale, n_group)
    return where_less(largest, smallest, zero_float() - smallest, largest)


@device
def quantize_steps(scratch, length, scale, nearest_level, low_step, high_step, n_group):
    """(unit, step), so that scale is about unit * step; the unit is a float16 shared by each group of runs.

    Steps are integers low_step..high_step; the largest scale gets low_step, the larger of the two in magnitude.
    """
    unit = rounded_to_half(group_peak(scale, n_group) / low_step)
    step = nearest_in(scale * inverse_or_zero(unit), low_step, high_step)
    for _ in range(N_ROUNDS):
        step = search_steps(scratch, length, unit, step, nearest_level, low_step, high_step)
        unit = solve_unit(scratch, length, unit, step, nearest_level, n_group)
    return unit, search_steps(scratch, length, unit, step, nearest_level, low_step, high_step)


@device
def store_run_codes(values, length, code_of, inverses, codes):
    """The codes of 16 runs in the order of the row; `inverses` has one float per run, 1 / scale."""
    for run in range(LANES):
        inverse = splat_load(inverses + 4 * run)
        for i in range(run * length, (run + 1) * length, LANES):
            store_low_bytes(codes + i, code_of(load_vector(values + 4 * i) * inverse))
