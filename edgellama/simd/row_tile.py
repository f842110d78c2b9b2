"""A tile of 16 rows by a few tokens whose weights are already in a register: what streams through memory once.

A tile is a Numba tuple of one vector per token. Values of neighbouring tokens lie 4 bytes apart.
"""

from types import SimpleNamespace

from numba import types
from numba.extending import intrinsic

from .dot import splat_quads, sums_of
from .memory import F32
from .tile_parts import make_integer_sums, make_zero, multiply_add, offset, pack, splat_at
from .vector import f32x16, pointer, u8x64


def make_row_tile(tokens: int, panel_tokens: int) -> SimpleNamespace:
    """The functions of a tile of `tokens` tokens of a panel that has room for `panel_tokens`."""
    sums, float_tile = make_integer_sums(tokens, 1), types.UniTuple(f32x16, tokens)

    def make_dot(int_tile: types.BaseTuple, small: bool):
        @intrinsic
        def dot(typing_context, tile, w, x, number):
            """tile + dot4 of the weights w with the four bytes of every token in quad `number` from x on."""

            def emit(context, builder, signature, arguments):
                tile, w, x, number = arguments
                quads = splat_quads(builder, x, number, tokens, panel_tokens)
                values = [
                    sums_of(small).add(builder, builder.extract_value(tile, t), w, quad) for t, quad in enumerate(quads)
                ]
                return pack(context, builder, int_tile, values)

            return int_tile(int_tile, u8x64, types.intp, types.int64), emit

        return dot

    @intrinsic
    def add_scaled(typing_context, total, tile, scale, activation_scales):
        """total + (float(tile) * row scale) * token scale, in this order."""

        def emit(context, builder, signature, arguments):
            total, tile, scale, address = arguments
            finish = sums_of(signature.args[1] == sums.small).finish
            values = []
            for t in range(tokens):
                dots = finish(builder, builder.extract_value(tile, t))
                scaled = builder.fmul(builder.sitofp(dots, f32x16.llvm), scale)
                x = splat_at(builder, address, t, F32, f32x16.llvm)
                acc = builder.extract_value(total, t)
                values.append(multiply_add(builder, scaled, x, acc))
            return pack(context, builder, float_tile, values)

        return float_tile(float_tile, tile, f32x16, types.intp), emit

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
        zero_ints=sums.zero,
        zero_floats=make_zero(float_tile),
        start_ints=sums.start,
        start_bytes=sums.start_bytes,
        dot_bytes=make_dot(sums.whole, False),
        dot_small=make_dot(sums.small, True),
        add_scaled=add_scaled,
        add_outer=add_outer,
        spill=spill,
    )
