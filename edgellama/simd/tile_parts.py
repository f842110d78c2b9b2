"""What the two register tiles are made of: Numba tuples of vectors, written out when their IR is emitted."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vector import I32, call, f32x16, i32x16, pointer, splat


def offset(builder, address, distance: int):
    return builder.add(address, ir.Constant(address.type, distance)) if distance else address


def splat_at(builder, address, token: int, element: ir.Type, vector: ir.VectorType):
    """The 4-byte value of a token, repeated in every lane; tokens lie 4 bytes apart."""
    value = builder.load(pointer(builder, offset(builder, address, 4 * token)), align=4, typ=element)
    return splat(builder, value, vector)


def pack(context, builder, tile, values):
    """A tile of these vectors."""
    result = ir.Constant(context.get_value_type(tile), ir.Undefined)
    for index, value in enumerate(values):
        result = builder.insert_value(result, value, index)
    return result


def multiply_add(builder, a, b, c):
    return call(builder, "llvm.fma.v16f32", f32x16.llvm, [a, b, c])


def make_zero(tile: types.UniTuple):
    """An intrinsic zero() -> a tile of zeros."""

    @intrinsic
    def zero(typing_context):
        def emit(context, builder, signature, arguments):
            return ir.Constant(context.get_value_type(tile), None)

        return tile(), emit

    return zero


def make_start(tile: types.UniTuple, tokens: int):
    """An intrinsic start(sums, shift): all accumulators of token t start at (int32 at sums + 4t) << shift.

    That is the zero point of the weights.
    """
    copies = tile.count // tokens

    @intrinsic
    def start(typing_context, sums, shift):
        def emit(context, builder, signature, arguments):
            count = splat(builder, builder.trunc(arguments[1], I32), i32x16.llvm)
            values = []
            for token in range(tokens):
                sum_of_token = splat_at(builder, arguments[0], token, I32, i32x16.llvm)
                values += [builder.shl(sum_of_token, count)] * copies
            return pack(context, builder, tile, values)

        return tile(types.intp, types.int64), emit

    return start
