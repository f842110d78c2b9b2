"""The logits of highest score that together reach an amount of weight: top-p and its like without a sort.

A histogram of weights by score tells in which bin the amount is reached. Of that bin's scores another one is made, and
so on, until those left are equal; of these the first are taken. As one of 1024 bins is left each time, the first pass
over everything is nearly the whole work.
"""

from llvmlite import ir
from numba import float32, float64, types

from ...compiler.entry import device, entry, intp
from ...simd.arithmetic import max_lanes, maximum, minimum, round_to_int, splat_float
from ...simd.lanes import count_lanes, lanes_between, lanes_equal, pack_floats
from ...simd.memory import load_f32, load_f64, load_i32, store_i64, store_ints, store_vector
from ...simd.vector import f32x16, make_store
from ..sampling_layout import BINS, GROUP, LANES
from .sampling import INFINITY, LOWEST, exponents_of, sixteen, store_f64, weights_of

TOP, FACTOR, AMOUNT, IS_SHARE, EXCEED = range(0, 40, 8)  # of the parameters, in bytes
LEVELS = 8  # histograms; what is not told apart by them is as good as equal
SAMPLE = 1024  # scores that the first histogram's range is taken from
MOST_PER_UNIT = float64(1e37)

DOUBLES = ir.VectorType(ir.DoubleType(), 16)
store_doubles = make_store(f32x16, 8, lambda builder, value: builder.fpext(value, DOUBLES))


@device
def highest_of(scores, n):
    highest = splat_float(-INFINITY)
    for i in range(0, n, 16):
        highest = maximum(sixteen(scores, n, i), highest)
    return max_lanes(highest)


@device
def lowest_of(scores, n, step):
    """The lowest finite score at every step-th place."""
    low = INFINITY
    for i in range(0, n, step):
        x = load_f32(scores + 4 * i)
        low = min(low, x if x > -INFINITY else low)
    return low


@device
def bins_per_unit(low, high):
    """So that `high` comes into the first bin and `low` into the last."""
    if not high > low:
        return float32(0.0)
    return float32(min(float64(BINS - 1) / (float64(high) - float64(low)), MOST_PER_UNIT))


@device
def bins_of(scores, n, i, high, scale):
    """int32 bins of the scores i..i+15, none above `high`; the last bin takes all that is low, minus infinity too."""
    distances = (splat_float(high) - sixteen(scores, n, i)) * splat_float(scale)
    return round_to_int(minimum(distances, splat_float(float32(BINS - 1))))


@device
def weights_at(parameters, logits, n, i):
    top, factor = float32(load_f64(parameters + TOP)), float32(load_f64(parameters + FACTOR))
    return weights_of(exponents_of(sixteen(logits, n, i), top, factor))


@device
def make_histogram(parameters, scores, logits, n, high, scale, sums):
    """float64 [BINS]; behind them room for the bins and weights of a group."""
    bins, weights = sums + 8 * BINS, sums + 8 * BINS + 4 * GROUP
    for i in range(BINS):
        store_f64(sums + 8 * i, float64(0.0))
    for group in range(0, n, GROUP):
        count = min(GROUP, n - group)
        for i in range(0, count, 16):
            store_ints(bins + 4 * i, bins_of(scores, n, group + i, high, scale))
            store_doubles(weights + 8 * i, weights_at(parameters, logits, n, group + i))
        for i in range(count):
            at = sums + 8 * load_i32(bins + 4 * i)
            store_f64(at, load_f64(at) + load_f64(weights + 8 * i))


@device
def target_of(parameters, sums):
    """The weight that is to be reached."""
    if load_f64(parameters + IS_SHARE) == 0.0:
        return load_f64(parameters + AMOUNT)
    total = float64(0.0)
    for i in range(BINS):
        total += load_f64(sums + 8 * i)
    return load_f64(parameters + AMOUNT) * total


@device
def is_reached(parameters, weight, target):
    return weight > target or (weight == target and load_f64(parameters + EXCEED) == 0.0)


@device
def find_bin(parameters, sums, before, target):
    """The bin in which the target is reached, or -1; and the weight before that bin."""
    weight = before
    for number in range(BINS):
        begin, weight = weight, weight + load_f64(sums + 8 * number)
        if is_reached(parameters, weight, target):
            return number, begin
    return -1, before


@device
def gather_bin(scores, logits, n, high, scale, number, to_scores, to_logits):
    """Finite scores in a bin and their logits, in their order; how many. The target may be the source."""
    found = 0
    for i in range(0, n, LANES):
        x = sixteen(scores, n, i)
        lanes = lanes_equal(bins_of(scores, n, i, high, scale), number) & lanes_between(x, LOWEST, INFINITY)
        if lanes != 0:
            beside = sixteen(logits, n, i)
            store_vector(to_scores + 4 * found, pack_floats(x, lanes))
            store_vector(to_logits + 4 * found, pack_floats(beside, lanes))
            found += count_lanes(lanes)
    return found


@device
def count_taken(parameters, logits, n, before, target, weights):
    """How many of n logits, in their order, it takes to reach the target; all if they do not."""
    weight = before
    for i in range(0, n, 16):
        store_doubles(weights, weights_at(parameters, logits, n, i))
        for lane in range(min(16, n - i)):
            weight += load_f64(weights + 8 * lane)
            if is_reached(parameters, weight, target):
                return i + lane + 1
    return n


@device
def position_of(scores, n, low, number):
    """The position of the number-th score, from 1 on, that is `low`."""
    for i in range(0, n, 16):
        lanes = lanes_between(sixteen(scores, n, i), low, low)
        if lanes != 0:
            if count_lanes(lanes) >= number:
                for lane in range(16):
                    number -= (lanes >> lane) & 1
                    if number == 0:
                        return i + lane
            number -= count_lanes(lanes)
    return n


@entry(types.void(*[intp] * 6))
def leading_logits(scores, logits, n, parameters, scratch, last):
    """The bound (low, last) of the logits of highest score that reach an amount of weight; if none do, of all.

    `parameters`: float64 top and factor of the weights, amount, whether that is a share, whether to exceed it; the
    first becomes `low`. `last` is an int64. `scratch`: leading_scratch_bytes(n).
    """
    sums, found = scratch, scratch + 8 * BINS + 12 * GROUP
    found_logits = found + 4 * (n + LANES)
    high = highest_of(scores, n)
    scale = bins_per_unit(lowest_of(scores, n, max(n // SAMPLE, 1)), high)
    make_histogram(parameters, scores, logits, n, high, scale, sums)
    target = target_of(parameters, sums)
    number, before = find_bin(parameters, sums, float64(0.0), target)
    if number < 0:
        store_f64(parameters, float64(LOWEST))
        store_i64(last, n)
        return
    n_found = gather_bin(scores, logits, n, high, scale, number, found, found_logits)
    for _ in range(LEVELS):
        low, high = lowest_of(found, n_found, 1), highest_of(found, n_found)
        if low == high:
            break
        scale = bins_per_unit(low, high)
        make_histogram(parameters, found, found_logits, n_found, high, scale, sums)
        number, begin = find_bin(parameters, sums, before, target)
        if number < 0:  # rounding has left the target just past the last of them
            break
        before = begin
        n_found = gather_bin(found, found_logits, n_found, high, scale, number, found, found_logits)
    low = lowest_of(found, n_found, 1)
    n_taken = count_taken(parameters, found_logits, n_found, before, target, sums)
    store_f64(parameters, float64(low))
    store_i64(last, position_of(scores, n, low, n_taken) if n_taken < n_found else n)
