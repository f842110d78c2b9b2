"""A tile of rank-1 updates: acc[row][vector] += scalar[row] * values[vector]. Both halves of attention are this.

Scores take queries as rows and 16 positions as a vector; outputs take probabilities as rows and 16 dimensions as
a vector. Values are read as float16, as float32, or as int8 times a scale.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import half
from .memory import F16X16, F32, I8X16
from .vector import call, f32x16, pointer, splat

HALF = ir.HalfType()


def _at(builder, address, stride, index: int):
    return builder.add(address, builder.mul(stride, ir.Constant(stride.type, index))) if index else address


def _float16_values(builder, address, scale_address):
    return half.to_float(builder, builder.load(pointer(builder, address), align=2, typ=F16X16))


def _float32_values(builder, address, scale_address):
    return builder.load(pointer(builder, address), align=4, typ=f32x16.llvm)


def _scaled_by_lane(builder, address, scale_address):
    """int8 values whose 16 scales (float16) lie at scale_address: keys, a lane a position."""
    codes = builder.load(pointer(builder, address), align=1, typ=I8X16)
    return builder.fmul(builder.sitofp(codes, f32x16.llvm), _float16_values(builder, scale_address, None))


def _scaled_by_one(builder, address, scale_address):
    """int8 values with one float16 scale: values, a lane a dimension."""
    codes = builder.load(pointer(builder, address), align=1, typ=I8X16)
    scale = half.to_float(builder, builder.load(pointer(builder, scale_address), align=2, typ=HALF))
    return builder.fmul(builder.sitofp(codes, f32x16.llvm), splat(builder, scale, f32x16.llvm))


def make_outer(rows: int, vectors: int, read_values):
    """Three intrinsics for a tile of rows x vectors: zero(), step(...) and store(...)."""
    tile = types.UniTuple(f32x16, rows * vectors)

    @intrinsic
    def zero(typing_context):
        def emit(context, builder, signature, arguments):
            return ir.Constant(context.get_value_type(tile), None)

        return tile(), emit

    @intrinsic
    def step(typing_context, total, scalars, scalar_stride, values, value_stride, scales, scale_stride):
        """total + scalar[row] * values[vector]; strides in bytes from a row's scalar, and a vector, to the next."""

        def emit(context, builder, signature, arguments):
            total, scalars, scalar_stride, values, value_stride, scales, scale_stride = arguments
            read = [
                read_values(builder, _at(builder, values, value_stride, v), _at(builder, scales, scale_stride, v))
                for v in range(vectors)
            ]
            for row in range(rows):
                address = pointer(builder, _at(builder, scalars, scalar_stride, row))
                scalar = splat(builder, builder.load(address, align=4, typ=F32), f32x16.llvm)
                for v in range(vectors):
                    index = row * vectors + v
                    acc = builder.extract_value(total, index)
                    acc = call(builder, "llvm.fma.v16f32", f32x16.llvm, [scalar, read[v], acc])
                    total = builder.insert_value(total, acc, index)
            return total

        return tile(tile, *[types.intp] * 6), emit

    @intrinsic
    def store(typing_context, total, address, row_stride, vector_stride):
        def emit(context, builder, signature, arguments):
            total, address, row_stride, vector_stride = arguments
            for row in range(rows):
                for v in range(vectors):
                    at = _at(builder, _at(builder, address, row_stride, row), vector_stride, v)
                    builder.store(builder.extract_value(total, row * vectors + v), pointer(builder, at), align=4)
            return context.get_dummy_value()

        return types.void(tile, types.intp, types.intp, types.intp), emit

    return zero, step, store


READERS = {
    "f16": (_float16_values, _float16_values),
    "f32": (_float32_values, _float32_values),
    "q8_0": (_scaled_by_lane, _scaled_by_one),
}
"""KV type -> (how a vector of keys is read, how a vector of values is read)."""
