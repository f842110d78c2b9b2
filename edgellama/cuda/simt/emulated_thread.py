"""The functions of thread.py on this CPU: every CUDA thread is a fiber, and waiting means switching to another one.

A fiber's words (int64) say who it is and where its block's memory lies; `fiber()` gives their address. Shuffles,
matrix loads and products exchange values through the warp's exchange memory between two warp barriers. Barriers are a
count and a generation. emulator.py makes the fibers; needs glibc's swapcontext.
"""

import numpy as np
from llvmlite import ir
from numba import float32
from numba.extending import intrinsic

from ...compiler.entry import device
from ...simd import memory
from ...simd.vector import I32, call
from .emulated_fiber import *  # noqa: F403
from .emulated_fiber import mine, warp_barrier, word
from .emulated_layout import (
    EXCHANGE,
    EXCHANGE_BYTES,
    LANES,
    THREAD,
)
from .emulated_matrices import *  # noqa: F403
from .emulated_memory import *  # noqa: F403
from .vectors import I8, i32, i32x4


@device
def shuffle_xor_int(x, mask):
    memory.store_i64(mine(), x)
    warp_barrier()
    found = memory.load_i64(word(EXCHANGE) + EXCHANGE_BYTES * ((word(THREAD) % LANES) ^ mask))
    warp_barrier()
    return found


@device
def shuffle_xor(x, mask):
    memory.store_f32(mine(), x)
    warp_barrier()
    found = memory.load_f32(word(EXCHANGE) + EXCHANGE_BYTES * ((word(THREAD) % LANES) ^ mask))
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
