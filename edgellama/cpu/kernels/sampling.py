"""Passes over all logits of a vocabulary: the compiled form of `edgellama/sampling/scan.py`, which defines them.

Logits are float32 (n,) at any address of a float; a NaN counts as minus infinity. What is summed is summed block by
block, BLOCK logits each and the last one shorter, lane by lane and then across: one order on every instruction set.
`parameters` is the address of float32 numbers, named where they are read.
"""

from numba import float32, float64, types

from ...compiler.entry import device, entry, intp
from ...simd.arithmetic import (
    absolute,
    exponential,
    max_lanes,
    maximum,
    select_first,
    splat_float,
    sum_lanes,
    zero_float,
)
from ...simd.lanes import choose, count_lanes, count_up, lanes_between, pack_floats, pack_ints
from ...simd.memory import (
    load_f32,
    load_f64,
    load_first,
    load_u16,
    load_vector,
    store_f32,
    store_first,
    store_i64,
    store_ints,
    store_vector,
)
from ...simd.vector import make_store
from ..sampling_layout import BLOCK, LANES

INFINITY = float32(float("inf"))
LOWEST = float32(-3.4028234663852886e38)
LOWEST_EXPONENT = float32(-87.0)  # its exponential is nearly the smallest normal float32
ONE = float32(1.0)
BISECTIONS = 24

store_f64 = make_store(types.float64, 8)


@device
def sixteen(logits, n, i):
    """Logits i..i+15 of n; minus infinity for a NaN and past the end."""
    nothing = splat_float(-INFINITY)
    if n - i >= 16:
        return maximum(load_vector(logits + 4 * i), nothing)
    return select_first(maximum(load_first(logits + 4 * i, n - i), nothing), nothing, n - i)


@device
def store_sixteen(out, n, i, values):
    """Values to i..i+15 of n."""
    if n - i >= 16:
        store_vector(out + 4 * i, values)
    else:
        store_first(out + 4 * i, values, n - i)


@device
def exponents_of(logits, top, factor):
    return (logits - splat_float(top)) * splat_float(factor)


@device
def weights_of(exponents):
    """exp(exponent), and zero below LOWEST_EXPONENT; NaN for none."""
    return choose(lanes_between(exponents, LOWEST_EXPONENT, INFINITY), exponential(exponents), zero_float())


@entry(types.void(*[intp] * 4))
def logit_maxima(logits, n, out, top):
    """float32 [n_blocks][16]: in every lane the largest logit of the block's that have this lane; the largest of all
    to `top`."""
    of_all = splat_float(-INFINITY)
    for start in range(0, n, BLOCK):
        largest = splat_float(-INFINITY)
        for i in range(start, min(start + BLOCK, n), 16):
            largest = maximum(sixteen(logits, n, i), largest)
        store_vector(out, largest)
        out += 64
        of_all = maximum(largest, of_all)
    store_f32(top, max_lanes(of_all))


@device
def count_from(values, n, low):
    """How many of the values are at least `low`."""
    count = 0
    for i in range(0, n, 16):
        count += count_lanes(lanes_between(load_vector(values + 4 * i), low, INFINITY))
    return count


@entry(types.void(*[intp] * 4))
def bound_of_largest(maxima, n, k, bound):
    """A float32 that at least k of n maxima reach, and not many more; minus infinity if there are fewer.

    n is a multiple of 16. Half the distance at a time, until no more than an eighth too many are left.
    """
    high, low = -INFINITY, INFINITY
    for i in range(n):
        x = load_f32(maxima + 4 * i)
        high = max(high, x)
        low = min(low, x if x > -INFINITY else low)
    if count_from(maxima, n, low) < k:
        store_f32(bound, -INFINITY)
        return
    for _ in range(BISECTIONS):
        middle = low + (high - low) * float32(0.5)
        count = count_from(maxima, n, middle)
        if count < k:
            high = middle
        else:
            low = middle
            if count <= k + (k >> 3):
                break
    store_f32(bound, low)


@entry(types.void(*[intp] * 7))
def logits_at_least(logits, n, parameters, limit, positions, values, count):
    """int32 positions and float32 values of the logits that are at least low; how many to the int64 `count`.

    `positions` and `values` have room for limit + LANES; with more than `limit` found, the rest is not looked at.
    `parameters`: low.
    """
    low, found = load_f32(parameters), 0
    for i in range(0, n, LANES):
        x = sixteen(logits, n, i)
        lanes = lanes_between(x, low, INFINITY)
        if lanes != 0:
            store_ints(positions + 4 * found, pack_ints(count_up(i), lanes))
            store_vector(values + 4 * found, pack_floats(x, lanes))
            found += count_lanes(lanes)
            if found > limit:
                break
    store_i64(count, found)


@device
def lanes_within(scores, i, low, last):
    """Of the scores i..i+15, those above `low`, and those equal to it that do not lie after position `last`."""
    lanes = lanes_between(scores, low, INFINITY)
    if i + 15 > last:
        after = (0xFFFF << max(last - i + 1, 0)) & 0xFFFF
        lanes &= ~(lanes_between(scores, low, low) & after)
    return lanes


@entry(types.void(*[intp] * 6))
def keep_logits(scores, logits, n, parameters, last, out):
    """float32 (n,): the logits whose scores lie within (low, last), minus infinity for the others.

    `parameters`: low.
    """
    low, nothing = load_f32(parameters), splat_float(-INFINITY)
    for i in range(0, n, 16):
        lanes = lanes_within(sixteen(scores, n, i), i, low, last)
        store_sixteen(out, n, i, choose(lanes, sixteen(logits, n, i), nothing))


@entry(types.void(*[intp] * 4))
def logit_nearness(logits, n, parameters, out):
    """float32 (n,): minus the distance of each logit from the center; a NaN is infinitely far. `parameters`: center."""
    center = splat_float(load_f32(parameters))
    for i in range(0, n, 16):
        store_sixteen(out, n, i, zero_float() - absolute(sixteen(logits, n, i) - center))


@entry(types.void(*[intp] * 4))
def keep_allowed(logits, n, mask, out):
    """float32 (n,): the logits whose bit is set in the uint32 `mask`, minus infinity for the others."""
    nothing = splat_float(-INFINITY)
    for i in range(0, n, 16):
        store_sixteen(out, n, i, choose(load_u16(mask + (i >> 3)), sixteen(logits, n, i), nothing))


@entry(types.void(*[intp] * 4))
def logit_weights(logits, n, parameters, out):
    """float32 [n_blocks]: the sum of a block's weights. `parameters`: top, factor."""
    top, factor = load_f32(parameters), load_f32(parameters + 4)
    for start in range(0, n, BLOCK):
        total = zero_float()
        for i in range(start, min(start + BLOCK, n), 16):
            total = total + weights_of(exponents_of(sixteen(logits, n, i), top, factor))
        store_f32(out, sum_lanes(total))
        out += 4


@entry(types.void(*[intp] * 4))
def logit_energies(logits, n, parameters, out):
    """float32 [n_blocks][2]: sums of a block's weights and of weight * exponent. `parameters`: top, factor."""
    top, factor, zero = load_f32(parameters), load_f32(parameters + 4), zero_float()
    for start in range(0, n, BLOCK):
        total, energy = zero, zero
        for i in range(start, min(start + BLOCK, n), 16):
            exponents = exponents_of(sixteen(logits, n, i), top, factor)
            weights = weights_of(exponents)
            total = total + weights
            energy = energy + choose(lanes_between(exponents, LOWEST_EXPONENT, INFINITY), weights * exponents, zero)
        store_f32(out, sum_lanes(total))
        store_f32(out + 4, sum_lanes(energy))
        out += 8


@entry(types.void(*[intp] * 4))
def logit_moments(logits, n, parameters, out):
    """float32 [n_blocks][3]: of finite logits their number, and sums of logit - pivot and of its square.

    `parameters`: pivot.
    """
    pivot, zero, one = splat_float(load_f32(parameters)), zero_float(), splat_float(ONE)
    for start in range(0, n, BLOCK):
        number, total, squares = zero, zero, zero
        for i in range(start, min(start + BLOCK, n), 16):
            x = sixteen(logits, n, i)
            finite = lanes_between(x, LOWEST, INFINITY)
            difference = choose(finite, x - pivot, zero)
            number = number + choose(finite, one, zero)
            total = total + difference
            squares = squares + difference * difference
        store_f32(out, sum_lanes(number))
        store_f32(out + 4, sum_lanes(total))
        store_f32(out + 8, sum_lanes(squares))
        out += 12


@device
def last_weight(sums, n):
    """The last of n float32 that is above zero."""
    for i in range(n - 1, -1, -1):
        if load_f32(sums + 4 * i) > float32(0.0):
            return i
    return 0


@device
def place_of(sums, n, point):
    """The first of n float32 parts whose end lies beyond the point, or the last that is not empty; and where it begins.

    Parts are laid end to end from 0 on, in float64.
    """
    end = float64(0.0)
    for i in range(n):
        begin, end = end, end + float64(load_f32(sums + 4 * i))
        if end > point:
            return i, begin
    return last_weight(sums, n), end


@device
def weights_within(logits, n, i, low, last, top, factor):
    """exp((logit - top) * factor) of the logits i..i+15; zero for those that do not lie within (low, last)."""
    x = sixteen(logits, n, i)
    return choose(lanes_within(x, i, low, last), weights_of(exponents_of(x, top, factor)), zero_float())


@entry(types.void(*[intp] * 6))
def draw_logit(logits, n, parameters, last, scratch, position):
    """The int64 position of the logit within (low, last) at which the weights so far exceed a share of their sum.

    `parameters`: float64 low, top, factor, share; the first becomes the sum. `scratch`: draw_scratch_bytes(n).
    """
    low, top = float32(load_f64(parameters)), float32(load_f64(parameters + 8))
    factor, total = float32(load_f64(parameters + 16)), float64(0.0)
    n_blocks = 0
    for start in range(0, n, BLOCK):
        of_block = zero_float()
        for i in range(start, min(start + BLOCK, n), 16):
            of_block = of_block + weights_within(logits, n, i, low, last, top, factor)
        store_f32(scratch + 4 * n_blocks, sum_lanes(of_block))
        total += float64(sum_lanes(of_block))
        n_blocks += 1
    point = load_f64(parameters + 24) * total
    block, begin = place_of(scratch, n_blocks, point)
    start, weights = block * BLOCK, scratch + 4 * n_blocks
    count = min(BLOCK, n - start)
    for i in range(0, count, 16):
        store_sixteen(weights, count, i, weights_within(logits, n, start + i, low, last, top, factor))
    place, _ = place_of(weights, count, point - begin)
    store_i64(position, start + place)
    store_f64(parameters, total)
