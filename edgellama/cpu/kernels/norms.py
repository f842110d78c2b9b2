"""Norms over rows of floats: root mean square, into a new row or added to one, and layer norm."""

from numba import float32

from ...compiler.entry import device, entry
from ...ops import ADD_RMSNORM, LAYERNORM, RMSNORM
from ...simd.arithmetic import fma, select_first, splat_float, square_root, sum_lanes, zero_float
from ...simd.memory import load_f32, load_first, load_i64, load_vector, store_first, store_vector
from .shared import N_ACTIVE, claim, end_of, first_of, is_few, local, row_count

X, WEIGHT, OUT, WIDTH, EPSILON = RMSNORM.offsets()
LAYER_X, LAYER_WEIGHT, LAYER_BIAS, LAYER_OUT, LAYER_WIDTH, LAYER_EPSILON = LAYERNORM.offsets()
ADD_X, ADD_WEIGHT, ADD_OUT, ADD_WIDTH, ADD_EPSILON = ADD_RMSNORM.offsets()


@device
def inverse_rms(x, width, epsilon):
    """1 / sqrt(mean(x^2) + epsilon) of `width` floats; two partial sums, added in a fixed order."""
    even, odd = zero_float(), zero_float()
    whole = width & ~31
    for i in range(0, whole, 32):
        a, b = load_vector(x + 4 * i), load_vector(x + 4 * i + 64)
        even, odd = fma(a, a, even), fma(b, b, odd)
    for i in range(whole, width, 16):
        a = load_first(x + 4 * i, width - i)
        even = fma(a, a, even)
    return float32(1.0) / square_root(sum_lanes(even + odd) / float32(width) + epsilon)


@device
def rmsnorm_row(x, weight, out, width, epsilon):
    factor = splat_float(inverse_rms(x, width, epsilon))
    whole = width & ~15
    for i in range(0, whole, 16):
        store_vector(out + 4 * i, load_vector(x + 4 * i) * factor * load_vector(weight + 4 * i))
    for i in range(whole, width, 16):
        count = width - i
        normed = load_first(x + 4 * i, count) * factor
        store_first(out + 4 * i, normed * load_first(weight + 4 * i, count), count)


@device
def rmsnorm_rows(op, x, out, first, end):
    weight, width, epsilon = load_i64(op + WEIGHT), load_i64(op + WIDTH), load_f32(op + EPSILON)
    for row in range(first, end):
        rmsnorm_row(x + 4 * row * width, weight, out + 4 * row * width, width, epsilon)


@entry()
def rmsnorm(op, frame, worker):
    n_rows = row_count(op, frame)
    x, out = local(op, frame, worker, load_i64(op + X)), local(op, frame, worker, load_i64(op + OUT))
    if is_few(op, frame):
        rmsnorm_rows(op, x, out, 0, n_rows)
        return
    while True:
        span = claim(op, n_rows, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        rmsnorm_rows(op, x, out, first_of(span), end_of(span))


@entry()
def add_rmsnorm(op, frame, worker):
    """Split over rows however few there are: the sum is not computed twice."""
    x, weight, out = load_i64(op + ADD_X), load_i64(op + ADD_WEIGHT), load_i64(op + ADD_OUT)
    width, epsilon = load_i64(op + ADD_WIDTH), load_f32(op + ADD_EPSILON)
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for row in range(first_of(span), end_of(span)):
            source, target = x + 4 * row * width, out + 4 * row * width
            factor = splat_float(inverse_rms(source, width, epsilon))
            for i in range(0, width, 16):
                count = width - i
                normed = load_first(source + 4 * i, count) * factor * load_first(weight + 4 * i, count)
                store_first(target + 4 * i, load_first(target + 4 * i, count) + normed, count)


@device
def mean_of(x, width):
    total = zero_float()
    for i in range(0, width, 16):
        total = total + load_first(x + 4 * i, width - i)
    return sum_lanes(total) / float32(width)


@device
def inverse_deviation(x, width, mean, epsilon):
    """1 / sqrt(variance + epsilon), from the distances to the mean."""
    total = zero_float()
    for i in range(0, width, 16):
        centred = load_first(x + 4 * i, width - i) - splat_float(mean)
        centred = select_first(centred, zero_float(), width - i)
        total = fma(centred, centred, total)
    return float32(1.0) / square_root(sum_lanes(total) / float32(width) + epsilon)


@device
def layernorm_rows(op, x, out, first, end):
    weight, bias, width = load_i64(op + LAYER_WEIGHT), load_i64(op + LAYER_BIAS), load_i64(op + LAYER_WIDTH)
    for row in range(first, end):
        source, target = x + 4 * row * width, out + 4 * row * width
        mean = mean_of(source, width)
        factor = splat_float(inverse_deviation(source, width, mean, load_f32(op + LAYER_EPSILON)))
        for i in range(0, width, 16):
            count = width - i
            normed = (load_first(source + 4 * i, count) - splat_float(mean)) * factor
            normed = normed * load_first(weight + 4 * i, count)
            shift = load_first(bias + 4 * i, count) if bias != 0 else zero_float()
            store_first(target + 4 * i, normed + shift, count)


@entry()
def layernorm(op, frame, worker):
    n_rows = row_count(op, frame)
    x, out = local(op, frame, worker, load_i64(op + LAYER_X)), local(op, frame, worker, load_i64(op + LAYER_OUT))
    if is_few(op, frame):
        layernorm_rows(op, x, out, 0, n_rows)
        return
    while True:
        span = claim(op, n_rows, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        layernorm_rows(op, x, out, first_of(span), end_of(span))
