"""What the two register tiles are made of: Numba tuples of vectors, written out when their IR is emitted."""

from types import SimpleNamespace

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .dot import start_of_bytes, sums_of
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


def make_zero(tile: types.BaseTuple):
    """An intrinsic zero() -> a tile of zeros."""

    @intrinsic
    def zero(typing_context):
        def emit(context, builder, signature, arguments):
            return ir.Constant(context.get_value_type(tile), None)

        return tile(), emit

    return zero


def make_integer_sums(tokens: int, copies: int) -> SimpleNamespace:
    """Tiles of integer sums, `copies` a token, and how runs of small codes and of bytes start (dot.py)."""
    small, whole = (types.UniTuple(sums_of(is_small).kind, tokens * copies) for is_small in (True, False))

    @intrinsic
    def start(typing_context, sums, shift):
        """All sums of token t start at (int32 at sums + 4t) << shift, which is the zero point of the weights."""

        def emit(context, builder, signature, arguments):
            count = splat(builder, builder.trunc(arguments[1], I32), i32x16.llvm)
            values = []
            for token in range(tokens):
                first = builder.shl(splat_at(builder, arguments[0], token, I32, i32x16.llvm), count)
                values += [sums_of(True).start(builder, first)] * copies
            return pack(context, builder, small, values)

        return small(types.intp, types.int64), emit

    @intrinsic
    def start_bytes(typing_context, sums):
        """The same for a run over bytes, whose zero point is 128."""

        def emit(context, builder, signature, arguments):
            values = []
            for token in range(tokens):
                first = start_of_bytes(builder, offset(builder, arguments[0], 4 * token))
                values += [sums_of(False).start(builder, first)] * copies
            return pack(context, builder, whole, values)

        return whole(types.intp), emit

    return SimpleNamespace(small=small, whole=whole, zero=make_zero(small), start=start, start_bytes=start_bytes)
