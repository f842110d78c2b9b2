"""ldmatrix and mma of an emulated warp: lanes lay their parts where the others find them."""

from llvmlite import ir
from numba import float32
from numba.extending import intrinsic

from ...compiler.entry import device
from ...simd import memory
from ...simd.vector import I32, make_store
from .emulated_fiber import mine, thread_index, warp_barrier, word
from .emulated_layout import (
    EXCHANGE,
    EXCHANGE_BYTES,
    LANES,
)
from .emulated_memory import load_i32, load_u16
from .vectors import f32, f32x4, i32x4, i64


@device
def _exchange_address(address):
    memory.store_i64(mine(), address)
    warp_barrier()


@device
def _row_address(lane):
    return memory.load_i64(word(EXCHANGE) + EXCHANGE_BYTES * lane)


@intrinsic
def _gather4(typing_context, a, b, c, d):
    """Four 32-bit words as a vector."""

    def emit(context, builder, signature, arguments):
        value = ir.Constant(i32x4.llvm, ir.Undefined)
        for index, element in enumerate(arguments):
            value = builder.insert_element(value, builder.trunc(element, I32), I32(index))
        return value

    return i32x4(i64, i64, i64, i64), emit


@device
def load_matrices(address):
    """Lanes 8 m .. 8 m + 7 give the rows of matrix m; lane l receives columns 2 (l % 4) and the next of row l // 4."""
    lane = thread_index() % LANES
    _exchange_address(address)
    offset, row = 4 * (lane % 4), lane // 4
    found = _gather4(
        load_i32(_row_address(row) + offset),
        load_i32(_row_address(row + 8) + offset),
        load_i32(_row_address(row + 16) + offset),
        load_i32(_row_address(row + 24) + offset),
    )
    warp_barrier()
    return found


@device
def _transposed_word(matrix, lane):
    """Rows 2 (lane % 4) and the next, column lane // 4."""
    row, offset = 8 * matrix + 2 * (lane % 4), 2 * (lane // 4)
    return load_u16(_row_address(row) + offset) | load_u16(_row_address(row + 1) + offset) << 16


@device
def load_matrices_transposed(address):
    lane = thread_index() % LANES
    _exchange_address(address)
    found = _gather4(
        _transposed_word(0, lane), _transposed_word(1, lane), _transposed_word(2, lane), _transposed_word(3, lane)
    )
    warp_barrier()
    return found


store_fragment = make_store(i32x4, 8)


@device
def _half_at(lane, place, upper):
    at = word(EXCHANGE) + EXCHANGE_BYTES * lane + 4 * place + 2 * upper
    return memory.load_f16(at)


@device
def _element(row, column, first):
    """Sum over k of a[row, k] b[k, column]; `first` is the word of b that holds k = 0 and 1 of its lane."""
    total = float32(0.0)
    for k in range(16):
        left = _half_at(4 * (row % 8) + k % 8 // 2, 2 * (k // 8) + row // 8, k % 2)
        right = _half_at(4 * column + k % 8 // 2, 4 + first + k // 8, k % 2)
        total += left * right
    return total


@intrinsic
def _plus(typing_context, c, s0, s1, s2, s3):
    """c + (s0, s1, s2, s3)."""

    def emit(context, builder, signature, arguments):
        value = ir.Constant(f32x4.llvm, ir.Undefined)
        for index, element in enumerate(arguments[1:]):
            value = builder.insert_element(value, element, I32(index))
        return builder.fadd(arguments[0], value)

    return f32x4(f32x4, f32, f32, f32, f32), emit


@device
def _multiply(a, b, c, first):
    lane = thread_index() % LANES
    store_fragment(mine(), a)
    store_fragment(mine() + 16, b)
    warp_barrier()
    row, column = lane // 4, 2 * (lane % 4)
    result = _plus(
        c,
        _element(row, column, first),
        _element(row, column + 1, first),
        _element(row + 8, column, first),
        _element(row + 8, column + 1, first),
    )
    warp_barrier()
    return result


@device
def multiply_low(a, b, c):
    return _multiply(a, b, c, 0)


@device
def multiply_high(a, b, c):
    return _multiply(a, b, c, 2)
