"""Memory of an emulated CUDA thread: loads and stores, copies that come late, and what several blocks count with."""

from llvmlite import ir
from numba import types

from ...compiler.entry import device
from ...simd import memory
from ...simd.vector import I32, I64, make_load, make_store
from .emulated_fiber import fiber, word
from .emulated_layout import (
    COMMITTED,
    PENDING,
    QUEUE,
)
from .vectors import F32, I8, I16, f32, f32x4, i32x2, i32x4, i64


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
def set_word(index, value):
    memory.store_i64(fiber() + 8 * index, value)


@device
def copy_async(target, source):
    """At once, or as late as it may be: either can show what does not wait."""
    queue, n = word(QUEUE), word(PENDING)
    if queue == 0:
        store_words(target, load_words(source))
    else:
        memory.store_i64(queue + 16 * n, target)
        memory.store_i64(queue + 16 * n + 8, source)
        set_word(PENDING, n + 1)


@device
def commit_copies():
    set_word(COMMITTED, word(PENDING))


@device
def wait_copies():
    """Those that were not committed are lost, as a kernel may not rely on them."""
    at = word(QUEUE)
    for _ in range(word(COMMITTED)):
        store_words(memory.load_i64(at), load_words(memory.load_i64(at + 8)))
        at += 16
    set_word(PENDING, 0)
    set_word(COMMITTED, 0)


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
