"""Choosing lanes by value: which lanes are in a range, taking them, and moving them together.

Lanes are chosen by the low 16 bits of an int64, bit i for lane i; between two of these functions LLVM keeps the mask
in whatever form the target has.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vector import I32, I64, call, f32x16, i32x16, make_binary, make_unary, splat

I16 = ir.IntType(16)
MASK = ir.VectorType(ir.IntType(1), 16)


def _mask(builder, bits):
    return builder.bitcast(builder.trunc(bits, I16), MASK)


@intrinsic
def lanes_between(typing_context, x, low, high):
    """Lanes with low <= x <= high; never a NaN."""

    def emit(context, builder, signature, arguments):
        x, low, high = arguments[0], *(splat(builder, bound, f32x16.llvm) for bound in arguments[1:])
        inside = builder.and_(builder.fcmp_ordered(">=", x, low), builder.fcmp_ordered("<=", x, high))
        return builder.zext(builder.bitcast(inside, I16), I64)

    return types.int64(f32x16, types.float32, types.float32), emit


@intrinsic
def lanes_equal(typing_context, x, number):
    """Lanes of integers that are this number."""

    def emit(context, builder, signature, arguments):
        same = builder.icmp_signed("==", arguments[0], splat(builder, builder.trunc(arguments[1], I32), i32x16.llvm))
        return builder.zext(builder.bitcast(same, I16), I64)

    return types.int64(i32x16, types.int64), emit


@intrinsic
def choose(typing_context, lanes, value, other):
    """The chosen lanes of `value` and the others of `other`."""

    def emit(context, builder, signature, arguments):
        return builder.select(_mask(builder, arguments[0]), arguments[1], arguments[2])

    return f32x16(types.int64, f32x16, f32x16), emit


def _pack_ints(builder, x, lanes):
    rest = ir.Constant(x.type, ir.Undefined)
    return call(builder, "llvm.experimental.vector.compress.v16i32", x.type, [x, _mask(builder, lanes), rest])


def _pack_floats(builder, x, lanes):
    """As integers: LLVM 22 cannot expand the operation on floats where the target does not have it."""
    return builder.bitcast(_pack_ints(builder, builder.bitcast(x, i32x16.llvm), lanes), x.type)


# The chosen lanes come first, what the others hold is undefined.
pack_ints = make_binary(i32x16, i32x16, types.int64, _pack_ints)
pack_floats = make_binary(f32x16, f32x16, types.int64, _pack_floats)
count_lanes = make_unary(types.int64, types.int64, lambda builder, lanes: call(builder, "llvm.ctpop.i64", I64, [lanes]))


def _count_up(builder, first):
    steps = ir.Constant(i32x16.llvm, list(range(16)))
    return builder.add(splat(builder, builder.trunc(first, I32), i32x16.llvm), steps)


count_up = make_unary(i32x16, types.int64, _count_up)  # first, first + 1, …
