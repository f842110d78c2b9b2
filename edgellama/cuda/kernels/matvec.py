"""A matrix times one row of activations, as in decode: one warp a row of the matrix, one lane a block of 32 columns.

Every block of threads first makes the activations it needs in its shared memory: x, normed if the op before was a norm,
as int8 with a scale for each 32 or as floats. It asks for its first weights before it waits for x.
"""

from types import SimpleNamespace

from numba import float32

from ...compiler.entry import device
from ...ops import ADD
from ..simt.thread import (
    block_barrier,
    block_index,
    block_threads,
    constant_f32,
    constant_words,
    exp2,
    load_f32,
    load_floats,
    n_blocks,
    prefetch,
    reciprocal_root,
    shared_load_floats,
    shared_memory,
    shared_store_floats,
    shared_store_i32,
    shuffle_xor,
    start_next,
    store_f32,
    thread_index,
    wait_for_previous,
)
from ..simt.vectors import (
    first,
    floats_of,
    fma4,
    fourth,
    larger,
    magnitude,
    round_to_int,
    second,
    splat4,
    sum4,
    third,
    vector4,
    zero4,
)
from .blocks import FLOAT_KINDS, INTEGER_KINDS, float_dot
from .launch import FLOAT, INT, kernel
from .reduce import block_sum, warp_sum

THREADS = 512
WARMED_BYTES = 4096  # of a row's codes that are asked for ahead of x
ZERO, ONE, LARGEST_CODE = float32(0.0), float32(1.0), float32(127.0)
LOG2_E = float32(1.4426950408889634)


@device
def silu(x):
    return x / (ONE + exp2(-LOG2_E * x))


@device
def norm_factor(x, norm, n_columns, epsilon, scratch):
    """1 / sqrt(mean(x^2) + epsilon), or 1 without a norm."""
    if norm == 0:
        return ONE
    total, column = zero4(0), 4 * thread_index()
    while column < n_columns:
        values = activation4(x, 0, ONE, column, n_columns)
        total = fma4(values, values, total)
        column += 4 * block_threads()
    return reciprocal_root(block_sum(sum4(total), scratch) / float32(n_columns) + epsilon)


@device
def activation(x, norm, factor, column, n_columns):
    """x[column], normed; zero where the last block of 32 is padded."""
    if column >= n_columns:
        return ZERO
    value = load_f32(x + 4 * column)
    return value if norm == 0 else value * factor * constant_f32(norm + 4 * column)


@device
def activation4(x, norm, factor, column, n_columns):
    """Four of them, in one load where they lie so; `column` is a multiple of 4."""
    at = x + 4 * column
    if column + 4 <= n_columns and at & 15 == 0:
        values = load_floats(at)
        if norm != 0:
            values = values * splat4(factor) * floats_of(constant_words(norm + 4 * column))
        return values
    return vector4(
        activation(x, norm, factor, column, n_columns),
        activation(x, norm, factor, column + 1, n_columns),
        activation(x, norm, factor, column + 2, n_columns),
        activation(x, norm, factor, column + 3, n_columns),
    )


@device
def largest_of_eight(values):
    """The largest magnitude of 32 values that eight lanes hold, in each of them."""
    largest = larger(
        larger(magnitude(first(values)), magnitude(second(values))),
        larger(magnitude(third(values)), magnitude(fourth(values))),
    )
    largest = larger(largest, shuffle_xor(largest, 1))
    largest = larger(largest, shuffle_xor(largest, 2))
    return larger(largest, shuffle_xor(largest, 4))


@device
def integer_activations(x, norm, n_columns, epsilon, shared):
    """int8 [2 halves][n_blocks][16], then (scale, scale * sum of 16, scale * sum of the other 16, 0) a block.

    Eight lanes have a block, four columns each, so that few loads wait for each other.
    """
    n, member = (n_columns + 31) >> 5, thread_index() & 7
    fields, scratch = shared + 32 * n, shared + 48 * n
    factor = norm_factor(x, norm, n_columns, epsilon, scratch)
    first_block = (thread_index() >> 5) * 4
    while first_block < n:  # alike for all lanes of a warp, which shuffle
        block = first_block + ((thread_index() & 31) >> 3)
        values = activation4(x, norm, factor, 32 * block + 4 * member, n_columns)
        largest = largest_of_eight(values)
        inverse = LARGEST_CODE / largest if largest > ZERO else ZERO
        a, b = round_to_int(first(values) * inverse), round_to_int(second(values) * inverse)
        c, d = round_to_int(third(values) * inverse), round_to_int(fourth(values) * inverse)
        scale = largest * float32(1 / 127)
        total = float32(a + b + c + d)
        total += shuffle_xor(total, 1)
        sums = scale * (total + shuffle_xor(total, 2))
        others = shuffle_xor(sums, 4)
        if block < n:
            codes = a & 255 | (b & 255) << 8 | (c & 255) << 16 | (d & 255) << 24
            shared_store_i32(shared + 16 * ((member >> 2) * n + block) + 4 * (member & 3), codes)
            if member == 0:
                shared_store_floats(fields + 16 * block, vector4(scale, sums, others, ZERO))
        first_block += (block_threads() >> 5) * 4
    block_barrier()


@device
def float_activations(x, norm, n_columns, epsilon, shared):
    """float32 [8 pieces][n_blocks][4]."""
    n = (n_columns + 31) >> 5
    factor = norm_factor(x, norm, n_columns, epsilon, shared + 128 * n)
    column = 4 * thread_index()
    while column < 32 * n:
        at = 16 * (((column & 31) >> 2) * n + (column >> 5))
        shared_store_floats(shared + at, activation4(x, norm, factor, column, n_columns))
        column += 4 * block_threads()
    block_barrier()


@device
def warm(codes, row, n_rows, row_bytes):
    """Bring the beginning of this warp's row into the second-level cache."""
    if row < n_rows:
        at = (thread_index() & 31) * 128
        while at < min(row_bytes, WARMED_BYTES):
            prefetch(codes + row * row_bytes + at)
            at += 4096


@device
def finish(out, row, total, bias, mode):
    """One value of the result."""
    if bias != 0:
        total += constant_f32(bias + 4 * row)
    if mode == ADD:
        total += load_f32(out + 4 * row)
    store_f32(out + 4 * row, total)


def make_dots(kind: SimpleNamespace, is_integer: bool, code_bytes: int) -> SimpleNamespace:
    """A row of the matrix times the activations, in all lanes; two rows at once for gates."""
    load, values, factor = kind.load, kind.values, kind.factor
    by_four, by_two = code_bytes <= 32, code_bytes <= 64  # blocks whose loads are in flight together

    if is_integer:
        dot_block = kind.dot

        @device
        def block_dot(loaded, shared, block, n):
            return dot_block(loaded, shared + 16 * block, 16 * n, shared_load_floats(shared + 32 * n + 16 * block))

    else:

        @device
        def block_dot(loaded, shared, block, n):
            return float_dot(values(loaded), shared + 16 * block, 16 * n) * factor(loaded)

    @device
    def dot(codes, scales, extras, row, n, run, shared):
        total, other = ZERO, ZERO
        block = thread_index() & 31
        while by_four and block + 96 < n:
            a = load(codes, scales, extras, row, block, n, run)
            b = load(codes, scales, extras, row, block + 32, n, run)
            c = load(codes, scales, extras, row, block + 64, n, run)
            d = load(codes, scales, extras, row, block + 96, n, run)
            total += block_dot(a, shared, block, n)
            other += block_dot(b, shared, block + 32, n)
            total += block_dot(c, shared, block + 64, n)
            other += block_dot(d, shared, block + 96, n)
            block += 128
        while by_two and block + 32 < n:
            a = load(codes, scales, extras, row, block, n, run)
            b = load(codes, scales, extras, row, block + 32, n, run)
            total += block_dot(a, shared, block, n)
            other += block_dot(b, shared, block + 32, n)
            block += 64
        while block < n:
            total += block_dot(load(codes, scales, extras, row, block, n, run), shared, block, n)
            block += 32
        return warp_sum(total + other)

    @device
    def dot_pair(codes, scales, extras, row, n, run, shared):
        gate, up = ZERO, ZERO
        block = thread_index() & 31
        while by_four and block + 32 < n:
            a = load(codes, scales, extras, row, block, n, run)
            b = load(codes, scales, extras, row + 1, block, n, run)
            c = load(codes, scales, extras, row, block + 32, n, run)
            d = load(codes, scales, extras, row + 1, block + 32, n, run)
            gate += block_dot(a, shared, block, n)
            up += block_dot(b, shared, block, n)
            gate += block_dot(c, shared, block + 32, n)
            up += block_dot(d, shared, block + 32, n)
            block += 64
        while block < n:
            a = load(codes, scales, extras, row, block, n, run)
            b = load(codes, scales, extras, row + 1, block, n, run)
            gate += block_dot(a, shared, block, n)
            up += block_dot(b, shared, block, n)
            block += 32
        return warp_sum(gate), warp_sum(up)

    return SimpleNamespace(dot=dot, dot_pair=dot_pair)


MATRIX = (INT, INT, INT, INT)  # codes, scales, extras, run


def make_matvec(name: str, kind: SimpleNamespace, is_integer: bool, code_bytes: int) -> None:
    """Export matvec_NAME and gated_NAME. `code_bytes`: of one block."""
    dots = make_dots(kind, is_integer, code_bytes)
    dot, dot_pair = dots.dot, dots.dot_pair
    activations = integer_activations if is_integer else float_activations

    @kernel(*MATRIX, INT, INT, INT, INT, INT, INT, INT, FLOAT, threads=THREADS, name=f"matvec_{name}")
    def matvec(codes, scales, extras, run, x, norm, bias, out, n_rows, n_columns, mode, epsilon):
        """out[r] (=, +=) sum_k matrix[r, k] x[k] (+ bias[r])."""
        n, shared = (n_columns + 31) >> 5, shared_memory()
        row = (thread_index() >> 5) * n_blocks() + block_index()
        start_next()
        warm(codes, row, n_rows, n * code_bytes)
        wait_for_previous()
        activations(x, norm, n_columns, epsilon, shared)
        while row < n_rows:
            total = dot(codes, scales, extras, row, n, run, shared)
            if thread_index() & 31 == 0:
                finish(out, row, total, bias, mode)
            row += (block_threads() >> 5) * n_blocks()

    @kernel(*MATRIX, INT, INT, INT, INT, INT, FLOAT, threads=THREADS, name=f"gated_{name}")
    def gated(codes, scales, extras, run, x, norm, out, n_rows, n_columns, epsilon):
        """out[r] = silu(gate[r]) up[r]: rows 2 r and 2 r + 1 of the matrix times x."""
        n, shared = (n_columns + 31) >> 5, shared_memory()
        row = 2 * ((thread_index() >> 5) * n_blocks() + block_index())
        start_next()
        warm(codes, row, n_rows, 2 * n * code_bytes)
        wait_for_previous()
        activations(x, norm, n_columns, epsilon, shared)
        while row < n_rows:
            gate, up = dot_pair(codes, scales, extras, row, n, run, shared)
            if thread_index() & 31 == 0:
                store_f32(out + 2 * row, silu(gate) * up)
            row += 2 * (block_threads() >> 5) * n_blocks()


CODE_BYTES = {"q4_0": 16, "q4_k": 16, "q6_k": 16, "q8_0": 32, "fp8_e4m3": 32, "fp8_e5m2": 32, "f16": 64, "bf16": 64}
CODE_BYTES["f32"] = 128
for _name, _kind in INTEGER_KINDS.items():
    make_matvec(_name, _kind, True, CODE_BYTES[_name])
for _name, _kind in FLOAT_KINDS.items():
    make_matvec(_name, _kind, False, CODE_BYTES[_name])
