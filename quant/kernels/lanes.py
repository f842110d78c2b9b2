"""What encoders need beside the runtime's SIMD layer: selection, rounding, groups of lanes, transposition."""

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from edgellama.simd import half
from edgellama.simd.vector import (
    I32,
    I64,
    call,
    constant,
    f32x16,
    i32x16,
    make_binary,
    make_store,
    make_unary,
    pointer,
)

LANES = 16
VECTOR_BYTES = 4 * LANES


def _add(builder, a, b):
    return builder.fadd(a, b)


def _smaller(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


smaller = make_binary(f32x16, f32x16, f32x16, _smaller)  # these two: b where either is NaN, one x86 instruction
larger = make_binary(f32x16, f32x16, f32x16, _larger)
nearest = make_unary(  # halves go to even
    f32x16, f32x16, lambda builder, x: call(builder, "llvm.rint.v16f32", f32x16.llvm, [x])
)
to_int = make_unary(i32x16, f32x16, lambda builder, x: builder.fptosi(x, i32x16.llvm))
bits_of = make_unary(i32x16, f32x16, lambda builder, x: builder.bitcast(x, i32x16.llvm))
rounded_to_half = make_unary(f32x16, f32x16, lambda builder, x: half.to_float(builder, half.to_half(builder, x)))
bits_of_float = make_unary(types.int64, types.float32, lambda builder, x: builder.zext(builder.bitcast(x, I32), I64))
bits_of_half = make_unary(  # of the float16 nearest to a float
    types.int64,
    types.float32,
    lambda builder, x: builder.zext(builder.bitcast(half.to_half(builder, x), ir.IntType(16)), I64),
)
float_of_bits = make_unary(types.float32, types.int64, lambda b, x: b.bitcast(b.trunc(x, I32), ir.FloatType()))

store_low_words = make_store(i32x16, 2, lambda builder, x: builder.trunc(x, ir.VectorType(ir.IntType(16), LANES)))


def _make_where_less(kind):
    @intrinsic
    def where_less(typing_context, a, b, x, y):
        """x where a < b, else y: y where either is NaN."""

        def emit(context, builder, signature, arguments):
            a, b, x, y = arguments
            return builder.select(builder.fcmp_ordered("<", a, b), x, y)

        return kind(f32x16, f32x16, kind, kind), emit

    return where_less


where_less, int_where_less = _make_where_less(f32x16), _make_where_less(i32x16)


def _fold(combine, n_lanes: int):
    """Groups of `n_lanes` neighbours folded by `combine`; every lane of a group holds the group's result."""

    def emit(builder, x):
        distance = 1
        while distance < n_lanes:
            exchanged = ir.Constant(ir.VectorType(I32, LANES), [lane ^ distance for lane in range(LANES)])
            x = combine(builder, x, builder.shuffle_vector(x, x, exchanged))
            distance *= 2
        return x

    return make_unary(f32x16, f32x16, emit)


sum_of_2, sum_of_4, sum_of_8, sum_of_16 = (_fold(_add, n_lanes) for n_lanes in (2, 4, 8, 16))
largest_of_2, largest_of_4, largest_of_8, largest_of_16 = (_fold(_larger, n_lanes) for n_lanes in (2, 4, 8, 16))
smallest_of_16 = _fold(_smaller, 16)
first_lane = make_unary(types.float32, f32x16, lambda builder, x: builder.extract_element(x, I32(0)))


def make_even_levels(n_levels: int):
    """Two intrinsics on f32x16: the nearest of the integers -n/2 .. n/2 - 1 as a float, and its place as an int."""
    low, high = -(n_levels // 2), n_levels - n_levels // 2 - 1

    def level(builder, x):
        nearest_integer = call(builder, "llvm.rint.v16f32", x.type, [x])
        raised = _larger(builder, nearest_integer, constant(x.type, float(low)))
        return _smaller(builder, raised, constant(x.type, float(high)))

    def code(builder, x):
        place = builder.fadd(level(builder, x), constant(x.type, float(-low)))
        return builder.fptosi(place, i32x16.llvm)

    return make_unary(f32x16, f32x16, level), make_unary(i32x16, f32x16, code)


def make_levels(levels: Sequence[int]):
    """The same for any ascending levels: a lane is compared with every midpoint; on one, the lower level is taken."""
    midpoints = (np.asarray(levels[:-1], np.float64) + levels[1:]) / 2

    def pick(kind, choices: Sequence[float]):
        def emit(builder, x):
            chosen = constant(kind.llvm, choices[0])
            for midpoint, choice in zip(midpoints, choices[1:], strict=True):
                above = builder.fcmp_ordered(">", x, constant(x.type, float(midpoint)))
                chosen = builder.select(above, constant(kind.llvm, choice), chosen)
            return chosen

        return make_unary(kind, f32x16, emit)

    return pick(f32x16, [float(level) for level in levels]), pick(i32x16, range(len(levels)))


def _interleave(builder, a, b, first: int):
    lanes = [lane + LANES * side for lane in range(first, first + LANES // 2) for side in range(2)]
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, LANES), lanes))


@intrinsic
def transpose(typing_context, source, source_stride, target):
    """Float j of the row at source + i * source_stride becomes float i of row j at target, for 16 x 16 values.

    Four rounds of perfect shuffles: each interleaves row i with row i + 8.
    """

    def emit(context, builder, signature, arguments):
        source, stride, target = arguments
        rows = []
        for i in range(LANES):
            address = pointer(builder, builder.add(source, builder.mul(stride, I64(i))))
            rows.append(builder.load(address, align=4, typ=f32x16.llvm))
        middle = LANES // 2
        for _ in range(4):
            pairs = [(rows[i], rows[i + middle]) for i in range(middle)]
            rows = [_interleave(builder, a, b, first) for a, b in pairs for first in (0, middle)]
        for j, row in enumerate(rows):
            builder.store(row, pointer(builder, builder.add(target, I64(VECTOR_BYTES * j))), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.intp), emit
