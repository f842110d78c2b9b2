"""The functions of thread.py on this CPU: every CUDA thread is a fiber, and waiting means switching to another one.

A fiber's words (int64) say who it is and where its block's memory lies; `fiber()` gives their address. Shuffles,
matrix loads and products exchange values through the warp's exchange memory between two warp barriers. Barriers are a
count and a generation. emulator.py makes the fibers; needs glibc's swapcontext.
"""

import numpy as np
from llvmlite import ir
from numba import float32, types
from numba.extending import intrinsic

from ...compiler.entry import device
from ...simd import memory
from ...simd.vector import I32, I64, call, make_load, make_store
from .emulated_layout import (
    BLOCK,
    BLOCK_BARRIER,
    BLOCK_Y,
    BLOCK_Z,
    BLOCKS,
    COMMITTED,
    CONTEXT,
    EXCHANGE,
    EXCHANGE_BYTES,
    LANES,
    PENDING,
    QUEUE,
    SCHEDULER,
    SHARED,
    THREAD,
    THREADS,
    WARP_BARRIER,
)
from .vectors import F32, I8, I16, f32, f32x4, i32, i32x2, i32x4, i64

CURRENT = "edgellama_fiber"
_C_CALL = types.ExternalFunction("swapcontext", types.int32(types.int64, types.int64))


def _current_slot(module):
    slot = module.globals.get(CURRENT)
    if slot is None:
        slot = ir.GlobalVariable(module, I64, CURRENT)
        slot.linkage, slot.initializer = "linkonce_odr", I64(0)
    return slot


@intrinsic
def fiber(typing_context):
    """Address of the running fiber's words."""

    def emit(context, builder, signature, arguments):
        return builder.load(_current_slot(builder.module), typ=I64)

    return i64(), emit


@intrinsic
def set_fiber(typing_context, address):
    """Say whose turn it is; the scheduler's."""

    def emit(context, builder, signature, arguments):
        builder.store(arguments[0], _current_slot(builder.module))
        return context.get_dummy_value()

    return types.void(i64), emit


@device
def _word(index):
    return memory.load_i64(fiber() + 8 * index)


@device
def thread_index():
    return _word(THREAD)


@device
def block_threads():
    return _word(THREADS)


@device
def n_blocks():
    return _word(BLOCKS)


@device
def block_index():
    return _word(BLOCK)


@device
def block_index_y():
    return _word(BLOCK_Y)


@device
def block_index_z():
    return _word(BLOCK_Z)


@device
def shared_memory():
    return _word(SHARED)


@device
def switch():
    """Let another fiber run."""
    _C_CALL(_word(CONTEXT), _word(SCHEDULER))


@device
def _barrier(address, n):
    """Wait until `n` fibers have come."""
    generation = memory.load_i64(address + 8)
    arrived = memory.load_i64(address) + 1
    memory.store_i64(address, arrived)
    if arrived == n:
        memory.store_i64(address, 0)
        memory.store_i64(address + 8, generation + 1)
    while memory.load_i64(address + 8) == generation:
        switch()


@device
def block_barrier():
    _barrier(_word(BLOCK_BARRIER), _word(THREADS))


@device
def warp_barrier():
    _barrier(_word(WARP_BARRIER), LANES)


@device
def _mine():
    """This lane's part of the exchange memory."""
    return _word(EXCHANGE) + EXCHANGE_BYTES * (_word(THREAD) % LANES)


@device
def shuffle_xor_int(x, mask):
    memory.store_i64(_mine(), x)
    warp_barrier()
    found = memory.load_i64(_word(EXCHANGE) + EXCHANGE_BYTES * ((_word(THREAD) % LANES) ^ mask))
    warp_barrier()
    return found


@device
def shuffle_xor(x, mask):
    memory.store_f32(_mine(), x)
    warp_barrier()
    found = memory.load_f32(_word(EXCHANGE) + EXCHANGE_BYTES * ((_word(THREAD) % LANES) ^ mask))
    warp_barrier()
    return found


def _products(builder, codes, x):
    kind, wide = ir.VectorType(I8, 16), ir.VectorType(I32, 16)
    a, b = (builder.sext(builder.bitcast(value, kind), wide) for value in (codes, x))
    return call(builder, "llvm.vector.reduce.add.v16i32", I32, [builder.mul(a, b)])


@intrinsic
def dot16(typing_context, codes, x, total):
    """total + the sum of 16 products of int8."""

    def emit(context, builder, signature, arguments):
        return builder.add(arguments[2], _products(builder, *arguments[:2]))

    return i32(i32x4, i32x4, i32), emit


@device
def exp2(x):
    return float32(2.0 ** np.float64(x))


@device
def reciprocal_root(x):
    return float32(1.0 / np.sqrt(np.float64(x)))


@device
def sine(x):
    return float32(np.sin(np.float64(x)))


@device
def cosine(x):
    return float32(np.cos(np.float64(x)))


def _zext(builder, value):
    return builder.zext(value, I64)


def _sext(builder, value):
    return builder.sext(value, I64)


def _trunc(kind: ir.Type):
    return lambda builder, value: builder.trunc(value, kind)


load_f32, load_i32 = make_load(f32, F32, 4), make_load(i64, I32, 4, _sext)
load_u8, load_u16 = make_load(i64, I8, 1, _zext), make_load(i64, I16, 2, _zext)
load_f64 = make_load(types.float64, ir.DoubleType(), 8)
load_words, load_floats = make_load(i32x4, i32x4.llvm, 16), make_load(f32x4, f32x4.llvm, 16)
load_weights8 = make_load(i32x2, i32x2.llvm, 8)
load_weights = constant_words = load_words
constant_f32, constant_u16, constant_i8 = load_f32, load_u16, make_load(i64, I8, 1, _sext)
store_f32, store_i32 = make_store(f32, 4), make_store(i64, 4, _trunc(I32))
store_u8, store_u16 = make_store(i64, 1, _trunc(I8)), make_store(i64, 2, _trunc(I16))
store_words, store_words8 = make_store(i32x4, 16), make_store(i32x2, 8)
shared_load_f32, shared_load_u16, shared_load_i32 = load_f32, load_u16, load_i32
shared_load_words, shared_load_floats = load_words, load_floats
shared_store_f32, shared_store_u16, shared_store_u8, shared_store_i32 = store_f32, store_u16, store_u8, store_i32
shared_store_words, shared_store_floats = store_words, make_store(f32x4, 16)


@device
def _set_word(index, value):
    memory.store_i64(fiber() + 8 * index, value)


@device
def copy_async(target, source):
    """At once, or as late as it may be: either can show what does not wait."""
    queue, n = _word(QUEUE), _word(PENDING)
    if queue == 0:
        store_words(target, load_words(source))
    else:
        memory.store_i64(queue + 16 * n, target)
        memory.store_i64(queue + 16 * n + 8, source)
        _set_word(PENDING, n + 1)


@device
def commit_copies():
    _set_word(COMMITTED, _word(PENDING))


@device
def wait_copies():
    """Those that were not committed are lost, as a kernel may not rely on them."""
    at = _word(QUEUE)
    for _ in range(_word(COMMITTED)):
        store_words(memory.load_i64(at), load_words(memory.load_i64(at + 8)))
        at += 16
    _set_word(PENDING, 0)
    _set_word(COMMITTED, 0)


@device
def _nothing():
    pass


wait_for_previous = start_next = fence = _nothing


@device
def prefetch(address):
    pass


@device
def atomic_add(address, n):
    found = load_i32(address)
    store_i32(address, found + n)
    return found


@device
def _exchange_address(address):
    memory.store_i64(_mine(), address)
    warp_barrier()


@device
def _row_address(lane):
    return memory.load_i64(_word(EXCHANGE) + EXCHANGE_BYTES * lane)


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
def _half_at(lane, word, upper):
    at = _word(EXCHANGE) + EXCHANGE_BYTES * lane + 4 * word + 2 * upper
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
    store_fragment(_mine(), a)
    store_fragment(_mine() + 16, b)
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
