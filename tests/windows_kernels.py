"""Kernels whose calling convention shows in their assembly, for test_windows_objects.py."""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from edgellama.compiler.entry import device, entry, intp
from edgellama.simd.memory import load_f32, load_i64, store_f32, store_i64

FIVE = types.void(intp, intp, intp, intp, intp)
FRAME_BYTES = 20_000


@entry(FIVE)
def five(first, second, third, fourth, fifth):
    store_f32(first, load_f32(second) + load_f32(third) + load_f32(fourth) + load_f32(fifth))


@device
def _sum(source, count):
    """Values that live across calls, and need registers that a callee must keep."""
    total, a, b = 0.0, load_f32(source), load_f32(source + 4)
    for i in range(count):
        total += math.sin(a * i) + math.cos(b * i)
    return total + a + b


@entry()
def with_calls(source, target, count):
    store_f32(target, _sum(source, count))


@intrinsic
def _stack_bytes(typing_context):
    """The address of FRAME_BYTES on the stack."""

    def generate(context, builder, signature, arguments):
        space = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), FRAME_BYTES))
        return builder.ptrtoint(space, context.get_value_type(intp))

    return intp(), generate


@entry()
def large_frame(source, target, count):
    space = _stack_bytes()
    for i in range(count):
        store_i64(space + load_i64(source + 8 * i), i)
    for i in range(count):
        store_i64(target + 8 * i, load_i64(space + load_i64(source + 8 * i)))
