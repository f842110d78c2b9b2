"""A tile of 16 rows by a few tokens whose weights are already in a register: what streams through memory once.

A tile is a Numba tuple of one vector per token. Values of neighbouring tokens lie 4 bytes apart.
"""

from types import SimpleNamespace

from numba import types
from numba.extending import intrinsic

from .dot import emit_dot4, splat_quad
from .memory import F32
from .tile_parts import make_start, make_zero, multiply_add, offset, pack, splat_at
from .vector import f32x16, i32x16, pointer, u8x64


def make_row_tile(tokens: int) -> SimpleNamespace:
    """The functions of a tile of `tokens` tokens."""
    int_tile, float_tile = types.UniTuple(i32x16, tokens), types.UniTuple(f32x16, tokens)

    def make_dot(small: bool):
        @intrinsic
        def dot(typing_context, tile, w, x):
            """tile + dot4 of the weights w with the four bytes of every token at x."""

            def emit(context, builder, signature, arguments):
                tile, w, x = arguments
                values = []
                for t in range(tokens):
                    quad = splat_quad(builder, offset(builder, x, 4 * t))
                    values.append(emit_dot4(builder, builder.extract_value(tile, t), w, quad, small))
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
                x = splat_at(builder, address, t, F32, f32x16.llvm)
                acc = builder.extract_value(total, t)
                values.append(multiply_add(builder, scaled, x, acc))
            return pack(context, builder, float_tile, values)

        return float_tile(float_tile, int_tile, f32x16, types.intp), emit

    @intrinsic
    def add_outer(typing_context, total, value, activations):
        """total + row value * token value."""

        def emit(context, builder, signature, arguments):
            total, value, address = arguments
            values = []
            for t in range(tokens):
                x = splat_at(builder, address, t, F32, f32x16.llvm)
                acc = builder.extract_value(total, t)
                values.append(multiply_add(builder, value, x, acc))
            return pack(context, builder, float_tile, values)

        return float_tile(float_tile, f32x16, types.intp), emit

    @intrinsic
    def spill(typing_context, tile, address):
        """Write the vector of token t to address + 128 * t (64-byte aligned)."""

        def emit(context, builder, signature, arguments):
            for t in range(tokens):
                place = offset(builder, arguments[1], 128 * t)
                builder.store(builder.extract_value(arguments[0], t), pointer(builder, place), align=64)
            return context.get_dummy_value()

        return types.void(float_tile, types.intp), emit

    return SimpleNamespace(
        zero_ints=make_zero(int_tile),
        zero_floats=make_zero(float_tile),
        start_ints=make_start(int_tile, tokens),
        dot=make_dot(False),
        dot_small=make_dot(True),
        add_scaled=add_scaled,
        add_outer=add_outer,
        spill=spill,
    )
