"""The register tile of a matrix-matrix product: `halves` x 16 rows by `tokens` tokens of accumulators.

A tile is a Numba tuple of vectors, index = token * halves + half; every function here is unrolled when its IR is
written, and LLVM keeps the tuple in registers. Addresses: weights of the two halves of a row group lie 64 bytes
apart, activations of the tokens 4 bytes apart (in a panel of `tile_tokens` tokens, of which a tile may take fewer).
"""

from types import SimpleNamespace

from numba import types
from numba.extending import intrinsic

from .dot import splat_quads, sums_of
from .memory import F32
from .target import current
from .tile_parts import make_integer_sums, make_zero, multiply_add, offset, pack, splat_at
from .vector import I64, emit_pin, f32x16, pointer, u8x64

TOKENS = current().tile_tokens
HALVES = current().tile_halves
FEW_TOKENS = min(TOKENS, 4)
halves_f32 = types.UniTuple(f32x16, HALVES)


@intrinsic
def load_halves_f32(typing_context, address):
    """16 floats per half, 64 bytes apart."""

    def emit(context, builder, signature, arguments):
        values = [
            builder.load(pointer(builder, offset(builder, arguments[0], 64 * half)), align=64, typ=f32x16.llvm)
            for half in range(HALVES)
        ]
        return pack(context, builder, halves_f32, values)

    return halves_f32(types.intp), emit


def make_tile(tokens: int) -> SimpleNamespace:
    """The functions of a tile of `tokens` tokens."""
    size = tokens * HALVES
    sums, float_tile = make_integer_sums(tokens, HALVES), types.UniTuple(f32x16, size)

    def make_dot(int_tile: types.BaseTuple, small: bool):
        @intrinsic
        def dot(typing_context, tile, weights, activations):
            """tile + dot4 of 64 weight bytes per half with four bytes of every token."""

            def emit(context, builder, signature, arguments):
                tile, weights, activations = arguments
                w = [
                    builder.load(pointer(builder, offset(builder, weights, 64 * half)), align=64, typ=u8x64.llvm)
                    for half in range(HALVES)
                ]
                values = []
                for token, x in enumerate(splat_quads(builder, activations, I64(0), tokens, TOKENS)):
                    for half in range(HALVES):
                        acc = builder.extract_value(tile, token * HALVES + half)
                        values.append(sums_of(small).add(builder, acc, w[half], x))
                emit_pin(builder)  # LLVM would gather the loads of many steps and spill the tile
                return pack(context, builder, int_tile, values)

            return int_tile(int_tile, types.intp, types.intp), emit

        return dot

    @intrinsic
    def add_scaled(typing_context, total, tile, scales, activation_scales):
        """total + (float(tile) * row scale) * token scale, in this order, for every accumulator."""

        def emit(context, builder, signature, arguments):
            total, tile, scales, address = arguments
            finish = sums_of(signature.args[1] == sums.small).finish
            values = []
            for token in range(tokens):
                x = splat_at(builder, address, token, F32, f32x16.llvm)
                for half in range(HALVES):
                    index = token * HALVES + half
                    scaled = builder.sitofp(finish(builder, builder.extract_value(tile, index)), f32x16.llvm)
                    scaled = builder.fmul(scaled, builder.extract_value(scales, half))
                    values.append(multiply_add(builder, scaled, x, builder.extract_value(total, index)))
            return pack(context, builder, float_tile, values)

        return float_tile(float_tile, tile, halves_f32, types.intp), emit

    @intrinsic
    def add_outer(typing_context, total, rows, activations):
        """total + row value * token value: one k of a float product, or the minimum of a block."""

        def emit(context, builder, signature, arguments):
            total, rows, address = arguments
            values = []
            for token in range(tokens):
                x = splat_at(builder, address, token, F32, f32x16.llvm)
                for half in range(HALVES):
                    acc = builder.extract_value(total, token * HALVES + half)
                    values.append(multiply_add(builder, builder.extract_value(rows, half), x, acc))
            return pack(context, builder, float_tile, values)

        return float_tile(float_tile, halves_f32, types.intp), emit

    @intrinsic
    def spill(typing_context, tile, address):
        """Write vector (token, half) to address + 128 * token + 64 * half (64-byte aligned)."""

        def emit(context, builder, signature, arguments):
            for index in range(size):
                token, half = divmod(index, HALVES)
                target = pointer(builder, offset(builder, arguments[1], 128 * token + 64 * half))
                builder.store(builder.extract_value(arguments[0], index), target, align=64)
            return context.get_dummy_value()

        return types.void(float_tile, types.intp), emit

    @intrinsic
    def add_runs(typing_context, tile, scales, address):
        """Memory as spill() leaves it: total = fma(tile, row scale, total) for every accumulator."""

        def emit(context, builder, signature, arguments):
            for index in range(size):
                token, half = divmod(index, HALVES)
                target = pointer(builder, offset(builder, arguments[2], 128 * token + 64 * half))
                total = builder.load(target, align=64, typ=f32x16.llvm)
                scale = builder.load(
                    pointer(builder, offset(builder, arguments[1], 64 * half)), align=64, typ=f32x16.llvm
                )
                value = builder.extract_value(arguments[0], index)
                builder.store(multiply_add(builder, value, scale, total), target, align=64)
            return context.get_dummy_value()

        return types.void(float_tile, types.intp, types.intp), emit

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
        add_runs=add_runs,
    )
