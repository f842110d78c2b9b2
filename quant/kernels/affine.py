"""Scales and minimums by weighted least squares: value = scale * code - minimum, codes 0..top, for 16 runs at once.

For fixed codes q the best scale and minimum of a run solve a 2 x 2 system in the sums of w q, w q^2 and w x q; for a
fixed scale and minimum the best code is the nearest one. The search starts from a grid of ranges and positions of the
codes, keeps the best, and alternates the two steps from there (Lloyd 1982). A second search then makes the scales and
minimums of a super-block integer multiples of two float16 numbers, judging by the squared error of the values.
"""

from numba import float32

from edgellama.compiler.entry import device
from edgellama.simd.arithmetic import fma, splat_float, zero_float
from edgellama.simd.memory import load_vector, splat_load, store_low_bytes

from .lanes import LANES, VECTOR_BYTES, larger, rounded_to_half, smaller, to_int, where_less
from .parts import INFINITE, clamp, group_largest, group_sum, inverse_or_zero, nearest_in
from .runs import PRODUCTS, WEIGHTS

FREE = -INFINITE  # as `least`: the minimum may have any value
N_RANGES, RANGE_STEP = 7, float32(0.4)  # how many codes a run's values span, relative to `top`
N_PHASES, FIRST_PHASE, PHASE_STEP = 4, float32(-0.5), float32(0.25)  # where the smallest value lies, in codes
N_ALTERNATIONS = 3
N_ROUNDS = 2  # of choosing steps and solving for the two units of a super-block
SINGULAR = float32(1e-4)  # share of a determinant's first product below which its equations are the same


@device
def code_sums(scratch, length, inverse, start, top):
    """Sums of w q, w q^2 and w x q over each run, q being nearest(x * inverse + start) in 0..top."""
    zero = zero_float()
    q_sum, qq_sum, xq_sum = zero, zero, zero
    for at in range(scratch, scratch + VECTOR_BYTES * length, VECTOR_BYTES):
        q = nearest_in(fma(load_vector(at), inverse, start), zero, top)
        weighted = load_vector(at + WEIGHTS) * q
        q_sum = q_sum + weighted
        qq_sum = fma(weighted, q, qq_sum)
        xq_sum = fma(load_vector(at + PRODUCTS), q, xq_sum)
    return q_sum, qq_sum, xq_sum


@device
def squared_error(sums, codes, scale, minimum):
    """The weighted squared error of scale * q - minimum, from the sums over a run and over its codes."""
    w_sum, x_sum, xx_sum = sums
    q_sum, qq_sum, xq_sum = codes
    two = splat_float(float32(2.0))
    of_scale = scale * (scale * qq_sum - two * xq_sum)
    of_minimum = minimum * (minimum * w_sum + two * (x_sum - scale * q_sum))
    return xx_sum + of_scale + of_minimum


@device
def solve_run(sums, codes, least):
    """The best (scale >= 0, minimum >= least) for these codes."""
    w_sum, x_sum, _ = sums
    q_sum, qq_sum, xq_sum = codes
    product = w_sum * qq_sum
    determinant, singular = product - q_sum * q_sum, splat_float(SINGULAR) * product
    inverse = inverse_or_zero(determinant)
    scale = (w_sum * xq_sum - x_sum * q_sum) * inverse
    minimum = (q_sum * xq_sum - qq_sum * x_sum) * inverse
    at_least = (xq_sum + least * q_sum) * inverse_or_zero(qq_sum)  # the best scale where the minimum is `least`
    scale = where_less(minimum, least, at_least, scale)
    scale = where_less(singular, determinant, scale, at_least)
    minimum = where_less(singular, determinant, larger(minimum, least), least)
    return larger(scale, zero_float()), minimum


@device
def keep_better(scratch, length, sums, inverse, start, top, least, best):
    """The better of `best` = (scale, minimum, error) and what the codes nearest(x * inverse + start) lead to."""
    codes = code_sums(scratch, length, inverse, start, top)
    scale, minimum = solve_run(sums, codes, least)
    error = squared_error(sums, codes, scale, minimum)
    old_scale, old_minimum, old_error = best
    scale = where_less(error, old_error, scale, old_scale)
    minimum = where_less(error, old_error, minimum, old_minimum)
    return scale, minimum, smaller(error, old_error)


@device
def extremes(scratch, length):
    low = load_vector(scratch)
    high = low
    for at in range(scratch, scratch + VECTOR_BYTES * length, VECTOR_BYTES):
        low, high = smaller(load_vector(at), low), larger(load_vector(at), high)
    return low, high


@device
def fit_runs(scratch, length, sums, top, least, first_range):
    """(scale, minimum) of each run. `least` is 0 or FREE; `first_range` is the narrowest range, relative to top."""
    zero = zero_float()
    w_sum, x_sum, _ = sums
    low, high = extremes(scratch, length)
    low = smaller(low, zero - least)
    per_value = inverse_or_zero(high - low)
    constant = larger((zero - x_sum) * inverse_or_zero(w_sum), least)
    best = (zero, constant, squared_error(sums, (zero, zero, zero), zero, constant))
    for trial in range(N_RANGES):
        inverse = (top + splat_float(first_range + RANGE_STEP * float32(trial))) * per_value
        for phase in range(N_PHASES):
            start = splat_float(FIRST_PHASE + PHASE_STEP * float32(phase)) - low * inverse
            best = keep_better(scratch, length, sums, inverse, start, top, least, best)
    for _ in range(N_ALTERNATIONS):
        inverse = inverse_or_zero(best[0])
        best = keep_better(scratch, length, sums, inverse, best[1] * inverse, top, least, best)
    return best[0], best[1]


@device
def search_steps(scratch, length, sums, units, steps, top, top_step, reach):
    """The best (step, minimum step) with a step at most `reach` away, and for each the minimum step it calls for."""
    scale_unit, minimum_unit = units
    centre, old_minimum_step = steps
    per_step = inverse_or_zero(minimum_unit) * inverse_or_zero(sums[0])
    step, minimum_step, error = centre, old_minimum_step, splat_float(INFINITE)
    for offset in range(-reach, reach + 1):
        new_step = clamp(centre + splat_float(float32(offset)), zero_float(), top_step)
        scale = scale_unit * new_step
        inverse = inverse_or_zero(scale)
        codes = code_sums(scratch, length, inverse, minimum_unit * old_minimum_step * inverse, top)
        new_minimum_step = nearest_in((scale * codes[0] - sums[1]) * per_step, zero_float(), top_step)
        new_error = squared_error(sums, codes, scale, minimum_unit * new_minimum_step)
        step = where_less(new_error, error, new_step, step)
        minimum_step = where_less(new_error, error, new_minimum_step, minimum_step)
        error = smaller(new_error, error)
    return step, minimum_step


@device
def solve_units(scratch, length, sums, units, steps, top, n_group):
    """The best float16 units of each group of runs for these steps and the codes that they give."""
    scale_unit, minimum_unit = units
    step, minimum_step = steps
    inverse = inverse_or_zero(scale_unit * step)
    q_sum, qq_sum, xq_sum = code_sums(scratch, length, inverse, minimum_unit * minimum_step * inverse, top)
    w_sum, x_sum, _ = sums
    a = group_sum(step * step * qq_sum, n_group)
    b = group_sum(step * minimum_step * q_sum, n_group)
    c = group_sum(minimum_step * minimum_step * w_sum, n_group)
    e = group_sum(step * xq_sum, n_group)
    f = group_sum(minimum_step * x_sum, n_group)
    determinant, singular = a * c - b * b, splat_float(SINGULAR) * a * c
    inverse = inverse_or_zero(determinant)
    alone = (e + minimum_unit * b) * inverse_or_zero(a)  # where only the scale can be told
    new_scale_unit = where_less(singular, determinant, (e * c - f * b) * inverse, alone)
    new_minimum_unit = where_less(singular, determinant, (e * b - f * a) * inverse, minimum_unit)
    zero = zero_float()
    return rounded_to_half(larger(new_scale_unit, zero)), rounded_to_half(larger(new_minimum_unit, zero))


@device
def quantize_steps(scratch, length, sums, scale, minimum, top, top_step, n_group, reach):
    """((scale unit, minimum unit), (step, minimum step)), so that scale is about scale unit * step, and so on.

    Units are float16 values shared by each group of `n_group` runs, steps are integers 0..top_step.
    """
    zero = zero_float()
    units = (
        rounded_to_half(group_largest(scale, n_group) / top_step),
        rounded_to_half(group_largest(minimum, n_group) / top_step),
    )
    steps = (
        nearest_in(scale * inverse_or_zero(units[0]), zero, top_step),
        nearest_in(minimum * inverse_or_zero(units[1]), zero, top_step),
    )
    for _ in range(N_ROUNDS):
        steps = search_steps(scratch, length, sums, units, steps, top, top_step, reach)
        units = solve_units(scratch, length, sums, units, steps, top, n_group)
    return units, search_steps(scratch, length, sums, units, steps, top, top_step, reach)


@device
def store_run_codes(values, length, top, inverses, starts, codes):
    """The codes of 16 runs in the order of the row: nearest(x * inverse + start), with one float of each per run."""
    zero = zero_float()
    for run in range(LANES):
        inverse, start = splat_load(inverses + 4 * run), splat_load(starts + 4 * run)
        for i in range(run * length, (run + 1) * length, LANES):
            code = nearest_in(fma(load_vector(values + 4 * i), inverse, start), zero, top)
            store_low_bytes(codes + i, to_int(code))
