"""The fiber that stands for a CUDA thread: its words, whose turn it is, and waiting for others."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...compiler.entry import device
from ...simd import memory
from ...simd.vector import I64
from .emulated_layout import (
    BLOCK,
    BLOCK_BARRIER,
    BLOCK_Y,
    BLOCK_Z,
    BLOCKS,
    CONTEXT,
    EXCHANGE,
    EXCHANGE_BYTES,
    LANES,
    SCHEDULER,
    SHARED,
    THREAD,
    THREADS,
    WARP_BARRIER,
)
from .vectors import i64

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
def word(index):
    return memory.load_i64(fiber() + 8 * index)


@device
def thread_index():
    return word(THREAD)


@device
def block_threads():
    return word(THREADS)


@device
def n_blocks():
    return word(BLOCKS)


@device
def block_index():
    return word(BLOCK)


@device
def block_index_y():
    return word(BLOCK_Y)


@device
def block_index_z():
    return word(BLOCK_Z)


@device
def shared_memory():
    return word(SHARED)


@device
def switch():
    """Let another fiber run."""
    _C_CALL(word(CONTEXT), word(SCHEDULER))


@device
def barrier(address, n):
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
    barrier(word(BLOCK_BARRIER), word(THREADS))


@device
def warp_barrier():
    barrier(word(WARP_BARRIER), LANES)


@device
def mine():
    """This lane's part of the exchange memory."""
    return word(EXCHANGE) + EXCHANGE_BYTES * (word(THREAD) % LANES)
