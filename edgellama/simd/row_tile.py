"""A tile of 16 rows by a few tokens whose weights are already in a register: what streams through memory once.

A tile is a Numba tuple of one vector per token. Values of neighbouring tokens lie 4 bytes apart.
"""

from types import SimpleNamespace

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .dot import emit_dot4, splat_quad
from .memory import F32
from .vector import I32, call, f32x16, i32x16, pointer, splat, u8x64


def _at(builder, address, token: int):
    return builder.add(address, ir.Constant(address.type, 4 * token)) if token else address


def _splat_at(builder, address, token: int, element: ir.Type, vector: ir.VectorType):
    value = builder.load(pointer(builder, _at(builder, address, token)), align=4, typ=element)
    return splat(builder, value, vector)


def make_row_tile(tokens: int) -> SimpleNamespace:
    """The functions of a tile of `tokens` tokens."""
    int_tile, float_tile = types.UniTuple(i32x16, tokens), types.UniTuple(f32x16, tokens)

    def pack(context, builder, tile, values):
        result = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for token, value in enumerate(values):
            result = builder.insert_value(result, value, token)
        return result

    @intrinsic
    def zero_ints(typing_context):
        def emit(context, builder, signature, arguments):
            return ir.Constant(context.get_value_type(int_tile), None)

        return int_tile(), emit

    @intrinsic
    def zero_floats(typing_context):
        def emit(context, builder, signature, arguments):
            return ir.Constant(context.get_value_type(float_tile), None)

        return float_tile(), emit

    @intrinsic
    def start_ints(typing_context, sums, shift):
        """The accumulator of token t starts at (int32 at sums + 4t) << shift: the zero point of the weights."""

        def emit(context, builder, signature, arguments):
            count = splat(builder, builder.trunc(arguments[1], I32), i32x16.llvm)
            sums = [_splat_at(builder, arguments[0], token, I32, i32x16.llvm) for token in range(tokens)]
            return pack(context, builder, int_tile, [builder.shl(value, count) for value in sums])

        return int_tile(types.intp, types.int64), emit

    def make_dot(small: bool):
        @intrinsic
        def dot(typing_context, tile, w, x):
            """tile + dot4 of the weights w with the four bytes of every token at x."""

            def emit(context, builder, signature, arguments):
                tile, w, x = arguments
                values = [
                    emit_dot4(
                        builder, builder.extract_value(tile, t), w, splat_quad(builder, _at(builder, x, t)), small
                    )
                    for t in range(tokens)
                ]
                return pack(context, builder, int_tile, values)

            return int_tile(int_tile, u8x64, types.intp), emit

        return dot

    @intrinsic
    def add_scaled(typing_context, total, tile, scale, activation_scales):
        """total + (float(tile) * row scale) * token scale, in this order."""

        def emit(context, builder, signature, arguments):
            total, tile, scale, address = arguments
            values = []
            for t in range(tokens):
                scaled = builder.fmul(builder.sitofp(builder.extract_value(tile, t), f32x16.llvm), scale)
                x = _splat_at(builder, address, t, F32, f32x16.llvm)
                acc = builder.extract_value(total, t)
                values.append(call(builder, "llvm.fma.v16f32", f32x16.llvm, [scaled, x, acc]))
            return pack(context, builder, float_tile, values)

        return float_tile(float_tile, int_tile, f32x16, types.intp), emit

    @intrinsic
    def add_outer(typing_context, total, value, activations):
        """total + row value * token value."""

        def emit(context, builder, signature, arguments):
            total, value, address = arguments
            values = []
            for t in range(tokens):
                x = _splat_at(builder, address, t, F32, f32x16.llvm)
                acc = builder.extract_value(total, t)
                values.append(call(builder, "llvm.fma.v16f32", f32x16.llvm, [value, x, acc]))
            return pack(context, builder, float_tile, values)

        return float_tile(float_tile, f32x16, types.intp), emit

    @intrinsic
    def spill(typing_context, tile, address):
        """Write the vector of token t to address + 128 * t (64-byte aligned)."""

        def emit(context, builder, signature, arguments):
            for t in range(tokens):
                place = builder.add(arguments[1], ir.Constant(arguments[1].type, 128 * t))
                builder.store(builder.extract_value(arguments[0], t), pointer(builder, place), align=64)
            return context.get_dummy_value()

        return types.void(float_tile, types.intp), emit

    return SimpleNamespace(
        zero_ints=zero_ints, zero_floats=zero_floats, start_ints=start_ints, dot=make_dot(False),
        dot_small=make_dot(True), add_scaled=add_scaled, add_outer=add_outer, spill=spill,
    )  # fmt: skip
