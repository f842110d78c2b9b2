"""A matrix times one row of activations, as in decode: one warp a row of the matrix, one lane a block of 32 columns.

Every block of threads first makes the activations it needs in its shared memory: x, normed if the op before was a norm,
as int8 with a scale for each 32 or as floats. It asks for its first weights before it waits for x.
"""

from types import SimpleNamespace

from ...compiler.entry import device
from ...ops import ADD
from ..simt.thread import (
    block_index,
    block_threads,
    constant_f32,
    exp2,
    load_f32,
    n_blocks,
    prefetch,
    shared_load_floats,
    shared_memory,
    start_next,
    store_f32,
    thread_index,
    wait_for_previous,
)
from .constants import LOG2_E, ONE, ZERO
from .float_blocks import FLOAT_KINDS, float_dot
from .integer_blocks import INTEGER_KINDS
from .launch import FLOAT, INT, kernel
from .one_row import float_activations, integer_activations
from .reduce import warp_sum

THREADS = 512
WARMED_BYTES = 4096  # of a row's codes that are asked for ahead of x


@device
def silu(x):
    return x / (ONE + exp2(-LOG2_E * x))


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
